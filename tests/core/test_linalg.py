"""Derivatives and solves of the core."""

import pytest
import torch

from helpers import normal
from posteria.core import linalg
from posteria.core.errors import NoDerivativeError
from posteria.core.linalg import called_once, rows_times, vjp


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 25), (8, 8), (80, 3), (200, 70)])
def test_a_row_is_multiplied_alike_whatever_is_beside_it(
    sizes: tuple[int, int], dtype: torch.dtype
) -> None:
    # Catches: a product whose algorithm, and so its last bits, depend on the number of rows or on a row's place.
    x, matrix = normal(3, 37, sizes[0]).to(dtype), normal(*sizes).to(dtype)
    product = rows_times(x, matrix)
    assert torch.allclose(product, x @ matrix, rtol=1e-4)
    for row in (0, 1, 7, 15, 16, 36):
        for rows in (1, 5, 16, 30):
            part = rows_times(x[1, row : row + rows], matrix)
            assert torch.equal(part, product[1, row : row + rows])
    assert rows_times(x[:0], matrix).shape == (0, 37, sizes[1])


def test_a_product_needs_no_private_name_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: another product, or no word about a missing derivative, with a torch that has renamed its engine.
    x, v = torch.randn(3, 5), torch.randn(3, 5)
    value, pulled = vjp(lambda z: z.sin() * z, x)
    found = pulled(v)
    monkeypatch.setattr(linalg, "_engine", None)
    again, pulled = vjp(lambda z: z.sin() * z, x)
    assert torch.equal(value, again) and torch.equal(found, pulled(v))
    with pytest.raises(NoDerivativeError):
        y, other = (torch.ones(3, requires_grad=True) for _ in range(2))
        linalg.gradient(y, other, torch.ones(3), "It")
