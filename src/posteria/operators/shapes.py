"""The shapes of pictures and of signals in time, and where an operator takes them."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import ShapeError
from ..core.space import shape_of


def picture_shape(shape: Sequence[int], operator: str) -> tuple[int, ...]:
    """The shape of a picture, `(..., channels, height, width)`; `ShapeError` for what may be a signal's."""
    shape = shape_of(shape)
    if len(shape) < 3:
        raise ShapeError(
            f"{operator} takes pictures (channels, height, width), not shape {shape}; a picture without colours "
            "is (1, height, width), and a signal (leads, time) has operators of its own, such as LinearFunction."
        )
    return shape


def signal_shape(shape: Sequence[int], operator: str) -> tuple[int, ...]:
    """The shape of a signal, `(..., channels, time)`; `ShapeError` for a number's."""
    shape = shape_of(shape)
    if not shape:
        raise ShapeError(f"{operator} takes signals (..., channels, time); a number has no time.")
    return shape


def shape_last(init: Callable[..., None]) -> Callable[..., None]:
    """An `__init__(self, setting, shape, ...)` that also takes the shape first, as in an earlier version."""

    @functools.wraps(init)
    def either(operator: object, *given: Any, **settings: Any) -> None:
        if given and isinstance(given[0], Sequence):
            message = f"{type(operator).__name__} takes its setting first and the shape after it."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            shape, *rest = given
            given = (rest[0], shape, *rest[1:]) if rest else ()
            settings = settings if rest else {**settings, "shape": shape}
        init(operator, *given, **settings)

    return either
