"""A function's parameters: which argument goes to which (as Python would), and back to a call.

JSON plays no part here. Hints are resolved by `resolved_hints`, strings and forward references included.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from stepwell.errors import ArgumentError, DefinitionError

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
EMPTY: Final = inspect.Parameter.empty


def resolved_hints(function: Callable[..., object], name: str) -> dict[str, Any]:  # Any: type forms
    """Return the type hints of a function, strings resolved.

    Raises:
        DefinitionError: an annotation names something that cannot be found.
    """
    target = inspect.unwrap(function)
    while not inspect.isroutine(target):
        target = getattr(target, "func", None) or type(target).__call__  # a functools.partial, or a callable object
    names = getattr(getattr(target, "__code__", None), "co_freevars", ())
    closed_over = {}
    for variable, cell in zip(names, getattr(target, "__closure__", None) or (), strict=False):
        try:
            closed_over[variable] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    try:
        return typing.get_type_hints(target, localns=closed_over, include_extras=True)
    except Exception as error:  # annotations are expressions: anything may be raised
        raise DefinitionError(
            f"{name}: an annotation cannot be resolved ({error}); define or import what it names at module level, "
            "not inside a function and not only under TYPE_CHECKING"
        ) from error


class Parameters:
    """The parameters of one function. `named` are all but `**kwargs`, in the order of the signature."""

    __slots__ = ("_by_keyword", "_positional", "extras", "function_name", "named", "positional", "required", "rest")

    def __init__(self, function: Callable[..., object], function_name: str) -> None:
        self.function_name = function_name
        try:
            found = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"{function_name}: its parameters cannot be told ({error}); wrap it in a def"
            ) from error
        kinds = {parameter.kind: parameter for parameter in found}  # of the two variadic kinds there is one at most
        self.rest = kinds.get(inspect.Parameter.VAR_POSITIONAL)
        self.extras = kinds.get(inspect.Parameter.VAR_KEYWORD)
        self.named = {parameter.name: parameter for parameter in found if parameter is not self.extras}
        self._positional = [parameter for parameter in found if parameter.kind in _POSITIONAL]
        self._by_keyword = {p.name for p in self.named.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self.positional = tuple(parameter.name for parameter in self._positional)
        self.required = [p.name for p in self.named.values() if p.default is EMPTY and p is not self.rest]

    def plain_counts(self) -> range:
        """How many positional arguments alone make a complete call without `*args`."""
        least = sum(parameter.default is EMPTY for parameter in self._positional)
        return range(least, len(self._positional) + 1) if least == len(self.required) else range(0)

    def listing(self) -> str:
        """The names, for errors."""
        return ", ".join(self.named) or "no parameters"

    def near(self, name: str, given: Collection[str]) -> str:
        """A question that names the parameter which `name` may have meant, or nothing."""
        near = difflib.get_close_matches(name, [known for known in self.named if known not in given], n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""

    def bind(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Return (arguments by parameter, members of `**kwargs`).

        Raises:
            ArgumentError: the call does not fit; in Python's own words.
        """
        surplus = args[len(self._positional) :]
        if surplus and self.rest is None:
            raise self._too_many(len(args))
        bound: dict[str, object] = dict(zip(self.positional, args, strict=False))
        if self.rest is not None and surplus:
            bound[self.rest.name] = list(surplus)
        extras: dict[str, object] = {}
        for key, value in kwargs.items():
            if key in self._by_keyword:
                if key in bound:
                    raise ArgumentError(f"{self.function_name}() got multiple values for argument {key!r}")
                bound[key] = value
            elif self.extras is None or key in self.named:
                raise self._unexpected(key, kwargs)
            else:
                extras[key] = value
        if any(name not in bound for name in self.required):
            raise self._missing(bound)
        return bound, extras

    def _too_many(self, count: int) -> ArgumentError:
        most = len(self._positional)
        least = sum(parameter.default is EMPTY for parameter in self._positional)
        takes = f"{most}" if least == most else f"from {least} to {most}"
        return ArgumentError(
            f"{self.function_name}() takes {takes} positional argument{'' if most == 1 else 's'} "
            f"but {count} {'was' if count == 1 else 'were'} given"
        )

    def _unexpected(self, key: str, given: Mapping[str, object]) -> ArgumentError:
        name = self.function_name
        if self.extras is not None:
            return ArgumentError(
                f"{name}() got {key!r} by keyword, which is the name of another parameter too: "
                "the journal keeps arguments by name; rename one of them"
            )
        if key in self.positional:
            return ArgumentError(f"{name}() got some positional-only arguments passed as keyword arguments: {key!r}")
        return ArgumentError(f"{name}() got an unexpected keyword argument {key!r}{self.near(key, given)}")

    def _missing(self, bound: Mapping[str, object]) -> ArgumentError:
        lacking = [name for name in self.required if name not in bound]
        positional = [name for name in lacking if name in self.positional]
        shown = [repr(name) for name in positional or lacking]
        listed = shown[0]
        if len(shown) > 1:
            listed = ", ".join(shown[:-1]) + (", and " if len(shown) > 2 else " and ") + shown[-1]
        return ArgumentError(
            f"{self.function_name}() missing {len(shown)} required {'positional' if positional else 'keyword-only'} "
            f"argument{'s' if len(shown) > 1 else ''}: {listed}"
        )

    def unbind(self, given: dict[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return (args, kwargs) of the call that `bind` was given; what is absent is left to its default."""
        rest: Sequence[Any] = given.pop(self.rest.name, ()) if self.rest else ()  # type: ignore[assignment]  # Any: items
        must = len(self._positional) if rest else self._last_positional_only(given)
        args: list[object] = []
        for index, parameter in enumerate(self._positional):
            if parameter.name not in given and index >= must:
                break
            args.append(given.pop(parameter.name, parameter.default))  # a gap is filled to reach a later one
        return (*args, *rest), given

    def _last_positional_only(self, given: Mapping[str, object]) -> int:
        """How many arguments cannot be passed by keyword, those before the last of them included."""
        only = [p.kind is p.POSITIONAL_ONLY and p.name in given for p in self._positional]
        return max((index + 1 for index, needed in enumerate(only) if needed), default=0)
