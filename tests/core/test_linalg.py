"""Derivatives and solves of the core."""

import pytest
import torch

from helpers import normal
from posteria.core.linalg import called_once, vjp


def test_a_map_that_is_called_once_frees_its_graph_and_maps_inside_it_do_not() -> None:
    # Catches: a graph that is kept through the last backward pass; a rule inside a prior that loses its own.
    x, v = normal(3, 4), normal(3, 4, seed=1)

    def inner(z: torch.Tensor) -> torch.Tensor:
        _, back = vjp(lambda u: u.sin(), z)
        assert torch.equal(back(v), back(v))
        return (z**3).sin()

    value, kept = vjp(inner, x)
    with called_once():
        again, once = vjp(inner, x)
    assert torch.equal(again, value) and torch.equal(once(v), kept(v))
    assert torch.equal(kept(v), kept(v))
    with pytest.raises(RuntimeError, match="second time"):
        once(v)
