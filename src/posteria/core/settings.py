"""Classes that hold settings: the ranges of their numbers, what their `repr` holds, and from it back to the object."""

import abc
import ast
import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from numbers import Integral
from types import NoneType
from typing import Any, Literal, SupportsFloat, cast, get_args, get_origin

from torch import Tensor
from typing_extensions import override

from .errors import InputError, PosteriaError, expect, unknown
from .record import alternatives

# Classes by the names that they had in records that were written before.
RENAMED = {"Clean": "X0"}


class KeywordError(InputError, TypeError):
    """A keyword that a class does not have."""


@lru_cache(maxsize=256)
def _declared(kind: type) -> list[tuple[str, tuple[Any, ...], bool, str]]:
    """Of each setting: its name, the kinds of its values, whether it may be None, and the range of its numbers."""
    ranges: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        ranges |= vars(base).get("limits", {})
    types = {f.name: alternatives(f.type) for f in fields(kind)}
    return [
        (
            name,
            tuple(each for each in kinds if each is not NoneType),
            NoneType in kinds,
            ranges.get(name, ""),
        )
        for name, kinds in types.items()
    ]


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def as_number(value: object, whole: bool = False) -> float | None:
    """A number of Python, of one of NumPy or PyTorch to the last bit; None for what is none, such as a truth value."""
    if _is_truth(value) or isinstance(value, complex):
        return None
    if type(value) is int or (type(value) is float and not whole):
        return value
    try:
        if whole:
            return int(value) if isinstance(value, Integral) else None
        return float(value) if isinstance(value, SupportsFloat) else None
    except (TypeError, ValueError):
        return None


def _fitted(value: Any, kinds: tuple[Any, ...], interval: str) -> tuple[Any, str]:
    """A setting, a plain one as Python's own kinds have it; and if it does not fit, what it should be, in words."""
    kind, args = kinds[0], get_args(kinds[0])
    if get_origin(kind) is Literal:
        return value, "" if value in args else " or ".join(map(repr, args))
    if kind is bool:
        return (bool(value), "") if _is_truth(value) else (value, "True or False")
    if get_origin(kind) is tuple:
        count = f" of {len(args)}" * (Ellipsis not in args)
        if getattr(value, "ndim", 0) > 0:
            value = value.tolist()
        if not isinstance(value, tuple | list) or (count and len(value) != len(args)):
            return value, f"a tuple{count}"
        each = args if count else args[:1] * len(value)
        items = [_fitted(item, (inner,), "") for item, inner in zip(value, each, strict=True)]
        wrong = next((words for _, words in items if words), "")
        many = {"a number": "numbers", "an integer": "integers"}.get(
            wrong, f"values, each {wrong}"
        )
        words = f"a tuple{count or ' of'} {many}" if wrong else ""
        return tuple(item for item, _ in items), words
    if interval or {*kinds} <= {int, float}:
        whole = int in kinds and float not in kinds
        (holds, words), number = _within(interval), as_number(value, whole)
        if number is None or not holds(number):
            return value, ", ".join(["an integer"] * whole + [words] * bool(words)) or "a number"
        return number, ""
    return value, ""


def _within(interval: str) -> tuple[Callable[[float], bool], str]:
    """Whether a number lies in a range such as `(0, 1]`, and the range in words; of "" any number does."""
    if not interval:
        return lambda x: True, ""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above, below = interval[0] == "(", interval[-1] == ")"
    words = f"above {low:g}" if above else f"at least {low:g}"
    if high < math.inf:
        end = "below " * below + f"{high:g}"
        words = (
            f"from {low:g} to {end}"
            if not above
            else f"{words} and {'at most ' * (not below)}{end}"
        )

    def holds(x: float) -> bool:
        return (low < x if above else low <= x) and (x < high if below else x <= high)

    return holds, words


def _switch(kind: str, keywords: dict[str, Any], switch: str, old: str, value: object) -> None:
    """Put a switch in place of the keyword that it had before."""
    warnings.warn(
        f"{old}={value!r} of {kind} is now as_published=({switch!r},); the old keyword goes with the next version.",
        DeprecationWarning,
        stacklevel=4,
    )
    others = tuple(name for name in keywords.get("as_published", ()) if name != switch)
    keywords["as_published"] = (*others, switch) if keywords.pop(old) == value else others


class Settings(abc.ABCMeta):
    """The kind of dataclasses that hold settings.

    Numbers, truth values, tuples, words of a `Literal` and parts with settings are checked by their annotations, and
    kept as Python's own: NumPy's and PyTorch's numbers as numbers, lists and arrays as tuples. A class may have

    - `limits`, the range of each of its numbers that has one, such as `{"eta": "[0, 1]"}`;
    - `switches`, the names that its field `as_published` may hold, each with the keyword that it had before and
      the value of that, which works for one version, with a warning;
    - `elsewhere(name, value)`, a sentence on a setting that people look for in it, or None.

    Raises:
        KeywordError: For a setting that the class does not have.
        InputError: For a value of another kind, a number out of its range, or an unknown switch.
        CapabilityError: For a part of another kind.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(type.__getattribute__(cls, "__init__"))
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @override
    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        switches: Mapping[str, tuple[str, object]] = getattr(cls, "switches", {})
        for switch, (old, value) in switches.items():
            if old in keywords:
                _switch(cls.__name__, keywords, switch, old, value)
        # What a class checks of its settings together comes after what holds for each.
        declared = fields(cls) if is_dataclass(cls) else ()
        names = [f.name for f in declared if f.init and not f.kw_only]
        cls._check_limits(dict(zip(names, args, strict=False)) | keywords)
        try:
            made = super().__call__(*args, **keywords)
        except TypeError as error:
            known = inspect.signature(cls).parameters
            wrong = [name for name in keywords if name not in known]
            takes_all = any(each.kind is each.VAR_KEYWORD for each in known.values())
            if isinstance(error, PosteriaError) or takes_all or not wrong:
                raise
            name = wrong[0]
            said = getattr(cls, "elsewhere", lambda *_: None)(name, keywords[name])
            raise KeywordError(
                said or str(unknown(f"setting of {cls.__name__}", name, known))
            ) from None
        # What a `repr` can hold, and a hash be taken of.
        for name, value in cls._check_limits(vars(made)).items():
            object.__setattr__(made, name, value)
        for switch in getattr(made, "as_published", ()):
            if switch not in switches:
                raise unknown(f"switch of {cls.__name__}", switch, switches)
        return made

    def _check_limits(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that are given, as they are kept; raises for one that does not fit."""
        kept: dict[str, Any] = {}
        for name, kinds, optional, interval in _declared(cls) if is_dataclass(cls) else ():
            value = given.get(name)
            if name not in given or (value is None and optional):
                continue
            # A sampler may stand for its rule until the object is made.
            if isinstance(kinds[0], Settings) and not hasattr(value, "as_rule"):
                expect(value, cast("type[Any]", kinds[0]), by=cls.__name__)
            kept[name], words = _fitted(value, kinds, interval)
            if words:
                words = "None, or " * optional + words
                raise InputError(f"{name} of {cls.__name__} is {words}; {value!r} is not.")
        return kept


def brief(value: object) -> str:
    """The shape of a tensor, the name of a function, and the `repr` of anything else."""
    if isinstance(value, Tensor) and value.ndim:
        return f"tensor of shape {tuple(value.shape)}"
    return getattr(value, "__qualname__", repr(value))


def rebuild(text: str, kinds: Mapping[str, type]) -> Any:
    """Build what a `repr` describes, such as `DPS(schedule=Table(steps=99, betas=LinearBetas()), zeta=1.0)`.

    Calls of known classes, by name, with literals and further calls as arguments.

    Raises:
        InputError: If the text holds anything else.
    """
    try:
        # A record may be of an earlier version.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return _build(ast.parse(text, mode="eval").body, kinds)
    except (SyntaxError, ValueError, TypeError) as error:
        why = re.split(r" on line | \(<unknown>", str(error))[0].rstrip(".")
        raise InputError(
            f"{text[:60]!r} does not describe an object of posteria: {why}."
        ) from error


def _build(node: ast.expr, kinds: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = RENAMED.get(node.func.id, node.func.id)
        if name not in kinds:
            raise ValueError(f"there is no class {name!r}")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("it unpacks a dictionary")
        keywords = {str(k.arg): _build(k.value, kinds) for k in node.keywords}
        return kinds[name](*(_build(a, kinds) for a in node.args), **keywords)
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.Tuple):
        return tuple(_build(item, kinds) for item in node.elts)
    return ast.literal_eval(node)
