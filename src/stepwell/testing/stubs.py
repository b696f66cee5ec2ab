"""What may stand for a task or a child workflow in a test: a function, a value, an error, or one after the other."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from stepwell.authoring.task import Task
from stepwell.authoring.workflow import Workflow
from stepwell.errors import ArgumentError, DefinitionError
from stepwell.model.durations import Duration, micros
from stepwell.model.ids import SECOND

Target: TypeAlias = "Task[..., Any] | Workflow[..., Any]"  # Any: whatever they return

Real: TypeAlias = Callable[[], Awaitable[object]]
"""Runs what the stub stands for, with the arguments of the call."""


class Call(dict[str, object]):
    """The arguments of one call by the names of the task's parameters, as far as they were given.

    It equals a plain dict of the arguments. `target` is the task or workflow that was called, `step` the readable
    path, `attempt` counts from 1 (for a child workflow: its runs do).
    """

    def __init__(
        self,
        target: Target,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        run_id: str,
        step: str,
        attempt: int,
    ) -> None:
        self.target = target
        self._signature = inspect.signature(target.function)
        super().__init__(self._signature.bind(*args, **kwargs).arguments)
        self.run_id = run_id
        self.step = step
        self.attempt = attempt

    @property
    def key(self) -> tuple[str, str, int]:
        """The same when this call is made once more by a rebuilt body, and for no other call."""
        return self.run_id, self.step, self.attempt

    def unpacked(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """The arguments for a function with the same parameters in the same order, whatever their names."""
        bound = inspect.BoundArguments(self._signature, OrderedDict(self))
        return bound.args, bound.kwargs


@runtime_checkable
class Stub(Protocol):
    """Stands for a task or a child workflow."""

    def check(self, target: Target) -> None:
        """Refuse, with a `DefinitionError`, what can be seen to be wrong before the first call."""

    async def answer(self, call: Call, real: Real) -> object:
        """Return the result of one attempt, or raise its error. It is then written and read as the real one is."""


def as_stub(what: object) -> Stub:
    """A stub as it is, or one that calls the function `what`.

    Raises:
        DefinitionError: it is neither.
    """
    if isinstance(what, Stub) and not isinstance(what, type):
        return what
    if isinstance(what, BaseException) or (isinstance(what, type) and issubclass(what, BaseException)):
        raise DefinitionError(f"a stub that raises is written raises({what!r})")
    if not callable(what):
        raise DefinitionError(f"a stub is a function, or what returns(…) and its like give; found {what!r}")
    return _Calls(what)


class _Calls:
    """Calls a function, which may be `async`, with the arguments of the call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins do not say
            self._signature = None

    def check(self, target: Target) -> None:
        """The function must take a call with everything that the target must be given."""
        parameters = inspect.signature(target.function).parameters.values()
        needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        args = [p.name for p in needed if p.kind is not p.KEYWORD_ONLY]
        self._fit(target.name, tuple(args), {p.name: p.name for p in needed if p.kind is p.KEYWORD_ONLY})

    def _fit(self, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        try:
            if self._signature is not None:
                self._signature.bind(*args, **kwargs)
        except TypeError as error:
            given = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
            raise ArgumentError(
                f"the stub of {name} takes {self._signature}, which does not fit {name}({given}): {error}; "
                "a result that needs no arguments is written returns(…)"
            ) from None

    async def answer(self, call: Call, real: Real) -> object:
        args, kwargs = call.unpacked()
        self._fit(call.step, args, kwargs)
        result = self._function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result


class _Returns:
    def __init__(self, value: object) -> None:
        self._value = value

    def check(self, target: Target) -> None:
        """The value must fit the target's result."""
        target.codec.returns.encode(self._value)

    async def answer(self, call: Call, real: Real) -> object:
        return self._value


class _Raises:
    def __init__(self, error: BaseException | type[BaseException]) -> None:
        is_error = isinstance(error, BaseException) or (isinstance(error, type) and issubclass(error, BaseException))
        if not is_error:
            raise DefinitionError(f"raises(…) takes an exception; found {error!r}")
        self._error = error

    def check(self, target: Target) -> None:
        """Any error may come out of anything."""

    async def answer(self, call: Call, real: Real) -> object:
        raise self._error if isinstance(self._error, type) else self._error.with_traceback(None)


class _Real:
    def check(self, target: Target) -> None:
        """A synchronous body runs in lockstep with the engine: it cannot be called from a stub."""
        if isinstance(target, Workflow) and not target.is_async:
            raise DefinitionError(f"{target.name} is a synchronous workflow: a stub of it cannot run the real one")

    async def answer(self, call: Call, real: Real) -> object:
        return await real()


class _Fails:
    def __init__(self, times: int, error: Stub, then: Stub) -> None:
        if isinstance(times, bool) or times < 1:
            raise DefinitionError(f"fails(times={times!r}): give a whole number from 1")
        self._times = times
        self._error = error
        self._then = then

    def check(self, target: Target) -> None:
        """What follows must fit."""
        self._then.check(target)

    async def answer(self, call: Call, real: Real) -> object:
        return await (self._error if call.attempt <= self._times else self._then).answer(call, real)


class _Takes:
    def __init__(self, duration: int, then: Stub) -> None:
        self._duration = duration
        self._then = then

    def check(self, target: Target) -> None:
        """What follows must fit."""
        self._then.check(target)

    async def answer(self, call: Call, real: Real) -> object:
        await asyncio.sleep(self._duration / SECOND)
        return await self._then.answer(call, real)


class _Sequence:
    def __init__(self, answers: tuple[Stub, ...]) -> None:
        if not answers:
            raise DefinitionError("in_turn(…) needs at least one answer")
        self._answers = answers
        self._turns: dict[tuple[str, str, int], int] = {}

    def check(self, target: Target) -> None:
        """Each answer must fit."""
        for answer in self._answers:
            answer.check(target)

    async def answer(self, call: Call, real: Real) -> object:
        turn = self._turns.setdefault(call.key, len(self._turns))
        if turn >= len(self._answers):
            raise DefinitionError(
                f"the stub of {call.step} has {len(self._answers)} answers, and this is call {turn + 1}: {dict(call)}"
            )
        return await self._answers[turn].answer(call, real)


real: Stub = _Real()
"""The task itself, where a stub may be given: `fails(times=2, then=real)`."""


def returns(value: object) -> Stub:
    """Every attempt returns `value`.

    It is refused when the bench is given it, with `Unserialisable`, if it does not fit the target's annotated result.
    """
    return _Returns(value)


def raises(error: BaseException | type[BaseException]) -> Stub:
    """Every attempt raises `error`; the task's retry policy decides what follows."""
    return _Raises(error)


def fails(
    times: int = 1,
    error: BaseException | type[BaseException] | None = None,
    *,
    then: object = real,
) -> Stub:
    """The first `times` attempts of every step raise `error` (a `ConnectionError` by default), the next does `then`.

    `then` is a stub, a function, a value, or (by default) the task itself. Of a child workflow the first `times` runs
    fail.
    """
    stated = ConnectionError("a stub fails, as it was told to") if error is None else error
    return _Fails(times, raises(stated), _stub_of(then))


def takes(duration: Duration, *, then: object = real) -> Stub:
    """Every attempt takes so much virtual time, then does what `then` says; it may well pass its time limit."""
    return _Takes(micros(duration, "takes(…)"), _stub_of(then))


def in_turn(*answers: object) -> Stub:
    """The first call gets the first answer, and so on: stubs, functions, or values. One call too many fails."""
    return _Sequence(tuple(_stub_of(answer) for answer in answers))


def _stub_of(what: object) -> Stub:
    """A stub or a function as it is, a value as what is returned."""
    return as_stub(what) if callable(what) or (isinstance(what, Stub)) else returns(what)
