"""Frozen dataclasses as JSON keeps them, and back with every value checked."""

import dataclasses
import math
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InputError

T = TypeVar("T")


def as_json(value: Any) -> Any:
    """A dataclass, or what one is made of, in values that JSON has; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[T], content: Any) -> T:
    """A dataclass from what `as_json` made of it.

    Raises:
        InputError: If a field is unknown, absent without a default, or has a value of another kind.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{content!r} does not hold named values.")
    hints, fields = get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in fields:
            raise InputError(f"{name} is not known.")
    values = {name: _value(name, value, hints[name]) for name, value in content.items()}
    for name, field in fields.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise InputError(f"{name} is missing.")
    return kind(**values)


def _value(name: str, value: Any, hint: Any) -> Any:
    """The value, where lists are the tuples that they were."""
    for kind in alternatives(hint):
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            return from_json(kind, value)  # type: ignore[arg-type]
        if get_origin(kind) in {list, tuple} and isinstance(value, list):
            return _items(name, value, kind)
        if get_origin(kind) is dict and isinstance(value, Mapping):
            return {key: _value(name, item, get_args(kind)[1]) for key, item in value.items()}
        if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
            return float(value)
        if suits(value, kind):
            return value
    raise InputError(f"{name} takes {described(hint)}; {value!r} is not one.")


def _items(name: str, values: list[Any], kind: Any) -> Any:
    inner = get_args(kind)
    if get_origin(kind) is list or inner[1:] == (...,):
        inner = (inner[0],) * len(values)
    if len(inner) != len(values):
        raise InputError(f"{name} takes {len(inner)} values; {values!r} has {len(values)}.")
    items = [_value(name, value, each) for value, each in zip(values, inner, strict=True)]
    return items if get_origin(kind) is list else tuple(items)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The kinds that an annotation allows."""
    return get_args(hint) if get_origin(hint) in {types.UnionType, Union} else (hint,)


def suits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; a truth value is no number."""
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    plain = get_origin(kind) or kind
    if isinstance(value, bool) and plain is not bool:
        return False
    return isinstance(value, plain)


def described(hint: Any) -> str:
    """An annotation in words."""
    return " or ".join(_name(kind) for kind in alternatives(hint))


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "None" if kind is types.NoneType else str((get_origin(kind) or kind).__name__)
