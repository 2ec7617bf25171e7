"""What posteria gives to others: rules as guiders of diffusers."""

from typing import Any

from .guiders import to_diffusers as to_diffusers


def __getattr__(name: str) -> Any:
    from .._deprecated import moved

    return moved(__name__, name)
