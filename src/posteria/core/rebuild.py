"""What the `repr` of an object holds, and from it back to the object without running any code from the text."""

import ast
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .errors import InputError

# Classes by the names that they had in records that were written before.
RENAMED = {"Clean": "X0"}


def brief(value: object) -> str:
    """The shape of a tensor, the name of a function, and the `repr` of anything else."""
    if isinstance(value, Tensor) and value.ndim:
        return f"tensor of shape {tuple(value.shape)}"
    return getattr(value, "__qualname__", repr(value))


def rebuild(text: str, kinds: Mapping[str, type]) -> Any:
    """Build what a `repr` describes: calls of known classes with literals and further calls as arguments.

    Args:
        text: For instance `DPS(schedule=Table(steps=99, betas=LinearBetas()), zeta=1.0)`.
        kinds: The classes that may be called, by name.

    Raises:
        InputError: If the text holds anything else.
    """
    try:
        return _build(ast.parse(text, mode="eval").body, kinds)
    except (SyntaxError, ValueError, TypeError) as error:
        raise InputError(
            f"{text[:60]!r} does not describe an object of posteria: {error}."
        ) from error


def _build(node: ast.expr, kinds: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = RENAMED.get(node.func.id, node.func.id)
        if name not in kinds:
            raise ValueError(f"there is no class {name!r}")
        keywords = {k.arg: _build(k.value, kinds) for k in node.keywords if k.arg is not None}
        return kinds[name](*(_build(a, kinds) for a in node.args), **keywords)
    if isinstance(node, ast.Tuple):
        return tuple(_build(item, kinds) for item in node.elts)
    return ast.literal_eval(node)
