"""A synchronous workflow body as a coroutine: its thread runs only while the loop waits for it, and vice versa.

The thread and the loop hand a baton to each other, so exactly one of them runs at any time and the body is as
deterministic as an async one. When the program is closed the thread is unwound by a `ControlFlow` exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any

from stepwell.errors import ControlFlow, Unwound, WorkflowBodyError


class BodySwitch:
    """Runs one synchronous function in a thread of `executor`, in lockstep with the coroutine `run()`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._to_loop = threading.Semaphore(0)
        self._to_body = threading.Semaphore(0)
        self._thread: int | None = None
        self._asked: Coroutine[Any, Any, Any] | None = None  # Any: whatever is awaited
        self._answer: object = None
        self._raise: BaseException | None = None
        self._result: object = None
        self._error: BaseException | None = None
        self._ended = False

    def block(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # Any: the coroutine's result
        """Called in the body's thread: let the loop run `coroutine`; return its result or raise its error."""
        if threading.get_ident() != self._thread:
            coroutine.close()
            raise WorkflowBodyError(
                "a blocking call of a synchronous workflow was made outside its own thread; start threads in tasks only"
            )
        self._asked = coroutine
        self._to_loop.release()
        self._to_body.acquire()
        if self._raise is not None:
            error, self._raise = self._raise, None
            raise error
        return self._answer

    async def run(self, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Run the body to its end; closing this coroutine unwinds the thread."""
        context = copy_context()
        self._executor.submit(context.run, self._main, function, args, kwargs)
        self._to_loop.acquire()
        try:
            while not self._ended:
                asked = self._asked
                assert asked is not None, "the body gives the baton back only to ask or to end"
                try:
                    self._answer = await asked
                except GeneratorExit:
                    raise
                except BaseException as error:  # whatever it is belongs to the body, at the place of its call
                    self._raise = error
                self._hand_over()
        except GeneratorExit:
            self._unwind()
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def _hand_over(self) -> None:
        self._to_body.release()
        self._to_loop.acquire()

    def _unwind(self) -> None:
        while not self._ended:  # a body that catches BaseException is told again at its next call
            if self._asked is not None:
                self._asked.close()
            self._raise = Unwound()
            self._hand_over()

    def _main(self, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        self._thread = threading.get_ident()
        try:
            self._result = function(*args, **kwargs)
        except ControlFlow:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._ended = True
            self._to_loop.release()
