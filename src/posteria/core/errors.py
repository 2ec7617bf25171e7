"""Errors that a user can act on: each is one sentence that says what was given and what is needed."""

from collections.abc import Iterable
from numbers import Integral
from typing import TypeVar

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
    *("reverse", "msdm", "mcgdiff", "fps", "tempered", "fk", "resample"),
)


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError` with the sentence unless the condition holds."""
    if not condition:
        raise InputError(sentence)


def whole(value: object, what: str, least: int = 1) -> int:
    """Return an integer of at least `least`; raise `InputError` for anything else."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise InputError(f"{what} is an integer of at least {least}; {value!r} is not.")


def expect(thing: object, kind: type[T], *, by: object) -> T:
    """Return `thing` if it is a `kind`.

    Raises:
        CapabilityError: Otherwise, naming who needs what, and what the kind says of a user's own.
    """
    if isinstance(thing, kind):
        return thing
    who = by if isinstance(by, str) else type(by).__name__
    own = getattr(kind, "own", "")
    raise CapabilityError(f"{who} needs {_one(kind.__name__)}; this is {_named(thing)}.{own}")


def _one(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOaeio' or name.startswith('SVD') else 'a'} {name}"


def _named(thing: object) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}: make one, {thing.__name__}(...)"
    name, label = type(thing).__name__, getattr(thing, "label", None)
    # Of an operator that is made of others, such as what a prior of latents measures.
    made = f" ({label})" if isinstance(label, str) and "@" in label else ""
    return f"{_one(name)}{made}"


def unknown(
    what: str, name: object, known: Iterable[str], unlisted: Iterable[str] = ()
) -> InputError:
    """The error for a name that is not among the known ones, listed or not, with the nearest of them."""
    # Imported here, since `posteria --help` has no use for it.
    import difflib

    names = list(known)
    near = difflib.get_close_matches(str(name).lower(), [*names, *unlisted], n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"There is no {what} {name!r}; there are {', '.join(names)}.{hint}")
