"""`stepwell`: finds the commands by their files' names, and turns every error into a message and an exit code.

A module of this package is a command: its name is the command's, the first line of its docstring the line in the
list, its `command` what runs. Modules are loaded when they are called, so that help and small commands are quick.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
import threading
from pathlib import Path
from typing import Any, Final, cast

import click

from stepwell import __version__
from stepwell.cli.parts.call import Call, global_options
from stepwell.cli.parts.endings import INTERRUPTED, OK, USAGE, complain, explain, report_crash
from stepwell.errors import StepwellError

_PACKAGE: Final = Path(__file__).parent
_SECTIONS: Final = {
    "Start": ("demo", "run", "tasks", "lint"),
    "Graphs": ("validate", "deploy", "workflows", "nodes", "schema"),
    "Look": ("runs", "show", "graph", "journal", "logs", "stream", "state", "replay"),
    "People": ("inbox", "answer"),
    "Steer": ("pause", "resume", "cancel", "retry", "signal", "publish"),
    "Time": ("rerun", "fork", "patch", "upgrade"),
    "Plan": ("queues", "triggers"),
    "Keep": ("doctor", "backup", "gc", "snapshot"),
}
"""How the list is ordered; a command that is not named here stands at the end."""


class Commands(click.Group):
    """The commands in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, alphabetically."""
        return sorted(module.name for module in pkgutil.iter_modules([str(_PACKAGE)]) if _is_command(module))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, loaded now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"stepwell.cli.{cmd_name}")
        return cast("click.Command", module.command)  # a module's attribute has no type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion when there is no such command."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else "see 'stepwell --help'"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, by section."""
        names = self.list_commands(ctx)
        placed = {name for section in _SECTIONS.values() for name in section}
        sections = {**_SECTIONS, "More": tuple(name for name in names if name not in placed)}
        for title, members in sections.items():
            rows = [(name, _summary(name)) for name in members if name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


@click.command(
    cls=Commands,
    params=global_options(),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 ok, 1 the run failed, 2 wrong usage, 3 not found, 4 refused, 130 after Ctrl-C.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Durable workflows for Python: runs survive crashes and restarts, and nothing finished is done twice."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows no "·" shows "?" and not a traceback
            stream.reconfigure(errors="replace")
    call = Call()
    code = _run(call, sys.argv[1:] if arguments is None else arguments)
    _flush()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        # A task's thread that passed its time limit cannot be stopped, and Python would wait for it at exit.
        os._exit(code)
    return code


def _run(call: Call, arguments: list[str]) -> int:
    try:
        code: Any = cli.main(arguments, prog_name="stepwell", standalone_mode=False, obj=call)
        return code if isinstance(code, int) else OK
    except click.ClickException as error:
        _usage(call, error)
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        if not call.json:
            click.echo("interrupted", file=call.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except StepwellError as error:
        return explain(call, error)
    except Exception as error:
        return report_crash(call, error)


def _usage(call: Call, error: click.ClickException) -> None:
    complain(call, "usage", error.format_message())
    if not call.json and isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage().replace("Usage:", "usage:"), file=call.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads any more
            pass


def _is_command(module: pkgutil.ModuleInfo) -> bool:
    return not module.ispkg and module.name != "main" and not module.name.startswith("_")


def _summary(name: str) -> str:
    """The first line of the module's docstring, read without running the module."""
    spec = importlib.util.find_spec(f"stepwell.cli.{name}")
    source = getattr(spec.loader, "get_source", lambda name: "")(f"stepwell.cli.{name}") if spec else ""
    return (source or "").partition('"""')[2].partition("\n")[0].removesuffix('"""').strip()
