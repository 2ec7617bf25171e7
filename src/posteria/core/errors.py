"""Errors that a user can act on: each is one sentence that says what was given and what is needed."""

import abc
import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any, SupportsFloat, TypeVar

from typing_extensions import override

T = TypeVar("T")


class PosteriaError(Exception):
    """Base of every error that posteria raises on purpose."""


class InputError(PosteriaError, ValueError):
    """A value that cannot be used: a mask without pixels, a noise level of zero, an unknown name."""


class ShapeError(PosteriaError, ValueError):
    """A tensor whose event shape does not fit."""


class CapabilityError(PosteriaError, TypeError):
    """A method that needs more of an object than the object can do."""


class ReadingWarning(UserWarning):
    """A prior that does not do what every denoiser does, so that its network is read as what it is not."""


class NoDerivativeError(CapabilityError):
    """A map whose output is not connected to its input, so that PyTorch cannot differentiate it."""

    def __init__(self, what: object) -> None:
        super().__init__(
            f"{what} has no derivative: its output is not connected to its input. It may run under "
            "no_grad, detach its result, or leave PyTorch (NumPy, ONNX). Mend that, or take a sampler "
            f"that needs no derivative of the prior ({', '.join(WITHOUT_DERIVATIVES)}) or of the "
            "operator (fk)."
        )


# Samplers of a posterior that never differentiate the prior.
WITHOUT_DERIVATIVES = (
    *("ddrm", "ddnm", "repaint", "score_sde", "daps", "pnp_dm", "diffpir", "red_diff"),
    *("mcgdiff", "fps", "fk"),
)


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError` with the sentence unless the condition holds."""
    if not condition:
        raise InputError(sentence)


def expect(thing: object, kind: type[T], *, by: object) -> T:
    """Return `thing` if it is a `kind`.

    Raises:
        CapabilityError: Otherwise, naming who needs what.
    """
    if isinstance(thing, kind):
        return thing
    who = by if isinstance(by, str) else type(by).__name__
    article = "an" if kind.__name__[0] in "AEIO" or kind.__name__.startswith("SVD") else "a"
    raise CapabilityError(f"{who} needs {article} {kind.__name__}; this is {_named(thing)}.")


def _named(thing: object) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}: make one, {thing.__name__}(...)"
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"There is no {what} {name!r}; there are {', '.join(names)}.{hint}")


class KeywordError(InputError, TypeError):
    """A keyword that a class does not have."""


@lru_cache(maxsize=256)
def _limits(kind: type) -> list[tuple[str, str, bool, bool]]:
    """Of each setting that has a range: its name, its range, whether it may be None, and whether it is an integer."""
    ranges: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        ranges |= vars(base).get("limits", {})
    types = {
        f.name: getattr(f.type, "__args__", (f.type,)) for f in fields(kind) if f.name in ranges
    }
    return [(k, ranges[k], type(None) in t, int in t and float not in t) for k, t in types.items()]


def _within(interval: str) -> tuple[Callable[[float], bool], str]:
    """Whether a number lies in a range such as `(0, 1]`, and the range in words."""
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


class Settings(abc.ABCMeta):
    """The kind of dataclasses that hold settings.

    `limits` of a class has the range of each of its numbers that has one, such as `{"eta": "[0, 1]"}`; a class may
    also say where a setting is that people look for in it: `elsewhere(name, value)` gives a sentence, or None.

    Raises:
        KeywordError: For a setting that the class does not have.
        InputError: For a number out of its range.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(type.__getattribute__(cls, "__init__"))
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @override
    def __call__(cls, *args: Any, **keywords: Any) -> Any:
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
        for name, interval, optional, whole in _limits(cls) if is_dataclass(cls) else ():
            value = getattr(made, name)
            holds, words = _within(interval)
            if value is None and optional:
                continue
            number = isinstance(value, Integral if whole else SupportsFloat)
            if not (number and holds(float(value))):
                kind = "None, or " * optional + "an integer, " * whole
                raise InputError(f"{name} of {cls.__name__} is {kind}{words}; {value!r} is not.")
        return made
