"""What every command is given: which store is meant, whether to answer in JSON, and where answers go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., object])

STORE_VARIABLE = "STEPWELL_STORE"
DEFAULT_STORE = "~/.stepwell/stepwell.db"
TASKS_VARIABLE = "STEPWELL_TASKS"


class Call:
    """One use of the command line.

    Answers go to `stdout`, everything else to `stderr`. They are kept here because the code of users, which may print
    what it likes, runs with `sys.stdout` turned to standard error.
    """

    def __init__(self) -> None:
        self.given_store = ""
        self.given_tasks: tuple[str, ...] = ()
        self.json = False
        self.stdout: TextIO = sys.stdout
        self.stderr: TextIO = sys.stderr

    @property
    def store(self) -> str:
        """The store's URL or path: as given, else from the environment, else the default."""
        text = self.given_store or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
        return os.path.expanduser(text) if text.startswith("~") else text

    @property
    def tasks(self) -> tuple[str, ...]:
        """Where what graphs may call is: as given, else what the environment says, split as by a shell."""
        return self.given_tasks or tuple(_split(os.environ.get(TASKS_VARIABLE, "")))

    def answer(self, text: str = "") -> None:
        """Print what was asked for."""
        click.echo(text, file=self.stdout)

    def document(self, value: object) -> None:
        """Print one JSON document, or one line of a stream of them."""
        click.echo(msgspec.json.encode(value, enc_hook=str), file=self.stdout)

    def say(self, text: str = "") -> None:
        """Tell the person at the terminal something that is not the answer."""
        if not self.json:
            click.echo(text, file=self.stderr)

    def command(self, *words: str) -> str:
        """How a person would type another command for the same store."""
        store = ["--store", self.given_store] if self.given_store else []
        return " ".join(["stepwell", *store, *(_quoted(word) for word in words)])


class Command(click.Command):
    """A command that takes `--store` and `--json` behind its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: click's own signature
        super().__init__(*args, **kwargs)
        self.params += global_options()


def cli_command(function: Callable[..., int | None]) -> click.Command:
    """Make `function(call, …)` the command of its module; what it returns is the exit code (None: 0)."""
    made = click.command(cls=Command)(click.make_pass_decorator(Call, ensure=True)(function))
    made.name = function.__module__.rpartition(".")[2]
    return made


class Group(click.Group):
    """A command that has commands of its own; `--store` and `--json` may stand behind any name.

    A word that is none of their names is the first argument of the one called `otherwise`, if that is set.
    """

    otherwise = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: click's own signature
        super().__init__(*args, **kwargs)
        self.params += global_options()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; see `otherwise`."""
        is_own = not self.otherwise or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if is_own else [self.otherwise, *args])

    def own(self, name: str) -> Callable[[Callable[..., int | None]], click.Command]:
        """Make `function(call, …)` one of its commands."""

        def made(function: Callable[..., int | None]) -> click.Command:
            command = click.command(name=name, cls=Command)(click.make_pass_decorator(Call, ensure=True)(function))
            self.add_command(command)
            return command

        return made


def cli_group(function: Callable[[Call], int | None]) -> Group:
    """Make `function(call)` the command of its module, for when none of its own commands is named."""

    def alone(call: Call, context: click.Context) -> int | None:
        return function(call) if context.invoked_subcommand is None else None

    alone.__doc__ = function.__doc__
    passing = click.pass_context(click.make_pass_decorator(Call, ensure=True)(alone))
    made = click.group(cls=Group, invoke_without_command=True)(passing)
    made.name = function.__module__.rpartition(".")[2]
    return made


def global_options() -> list[click.Parameter]:
    """`--store` and `--json`, which write themselves into the `Call`."""
    store = click.Option(
        ["--store"],
        metavar="URL",
        expose_value=False,
        callback=_take_store,
        help=f"Where the runs are: a file or a URL.  [default: ${STORE_VARIABLE}, else {DEFAULT_STORE}]",
    )
    answer = click.Option(
        ["--json"], is_flag=True, expose_value=False, callback=_take_json, help="Answer in JSON; streams as JSON lines."
    )
    return [store, answer]


def _take_store(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        if not value:
            raise click.BadParameter("is empty: give a file or a URL")
        context.ensure_object(Call).given_store = value


def _take_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Call).json = True


def code_option(function: F) -> F:
    """Give a command `--tasks`, which it finds as `call.tasks`."""
    return click.option(
        "--tasks",
        multiple=True,
        metavar="TARGET",
        expose_value=False,
        callback=_take_tasks,
        help=f"What nodes of graphs may call: file.py, module, or one task in it; may be repeated.  "
        f"[default: ${TASKS_VARIABLE}]",
    )(function)


def _take_tasks(context: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        context.ensure_object(Call).given_tasks = value


def _split(text: str) -> list[str]:
    import shlex

    return shlex.split(text)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
