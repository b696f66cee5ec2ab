"""How a function is found that was defined in a script: its file is run once more, under another name.

A script is run as `__main__` by the process that was started with it and cannot be imported there under another
name without running it again; a child process has to run it again, and does so under the name that multiprocessing
uses, so that `if __name__ == "__main__":` guards what only the first process is meant to do.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

from stepwell.errors import DefinitionError, TargetError
from stepwell.model.failures import SCRIPT_MODULE

_lock = threading.RLock()
_loaded: dict[str, ModuleType] = {}
_loading: list[str] = []


def load_script(path: str) -> ModuleType:
    """Return the module of the script at `path`, running the file unless this process has done so.

    Raises:
        TargetError: there is no such file.
        BaseException: whatever the script itself raises; it is run again the next time it is asked for.
    """
    with _lock:
        main = sys.modules.get("__main__")
        if main is not None and _same(getattr(main, "__file__", None), path):
            return main
        if path not in _loaded:
            _loaded[path] = _run(path)
        return _loaded[path]


def refuse_while_loading(what: str) -> None:
    """Raise when a script that is being loaded here tries to do `what`.

    Without this a script that starts its workflows at the top level would start them again in every child
    process, and each of those would start child processes.

    Raises:
        DefinitionError: a script is being loaded.
    """
    if _loading:
        raise DefinitionError(
            f"{_loading[-1]} {what} while a child process loads it to find a task: "
            'put what starts the program under `if __name__ == "__main__":`'
        )


def _run(path: str) -> ModuleType:
    name = SCRIPT_MODULE + (str(len(_loaded) + 1) if _loaded else "")
    if not Path(path).is_file():
        raise TargetError(f"there is no Python file {path}")
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # type hints of its classes are looked up here
    _loading.append(path)
    try:
        # As Python runs a script: whatever its suffix, and without leaving a bytecode file beside it.
        exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _loading.pop()
    return module


def _same(file: object, path: str) -> bool:
    return isinstance(file, str) and os.path.abspath(file) == os.path.abspath(path)
