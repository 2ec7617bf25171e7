"""Derivatives and solves of the core."""

import pytest
import torch

from helpers import normal
from posteria.core import linalg
from posteria.core.errors import NoDerivativeError
from posteria.core.linalg import called_once, conjugate_gradient, rows_times, vjp
from posteria.core.space import Space


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


def test_what_is_nan_is_not_solved_by_0() -> None:
    # Catches: a residual that is nan, which is not above any bound, taken for one that has vanished.
    b = normal(3, 4)
    b[1, 2] = torch.nan
    solved = conjugate_gradient(lambda z: 2 * z, b, Space((4,), b.dtype), iterations=5)
    assert torch.equal(solved[::2], b[::2] / 2) and solved[1].isnan().all()


@pytest.mark.parametrize("most", [2.0, 1e9, float("inf")])
def test_a_shortened_vector_has_a_derivative_at_0(most: float) -> None:
    # Catches: 0 times the infinite derivative of a root, infinity over infinity.
    space, x = (
        Space((4,), torch.float64),
        torch.stack([torch.zeros(4), torch.ones(4) * 3]).double(),
    )
    short, pullback = vjp(lambda z: space.within(z, most), x)
    expected = x if most > 6 else x * torch.tensor([[1.0], [1 / 3]], dtype=x.dtype)
    assert torch.allclose(short, expected)
    along = pullback(torch.ones_like(x))
    # Along itself, a vector on the sphere does not move.
    assert torch.allclose(
        along, torch.tensor([[1.0], [1.0 if most > 6 else 0.0]]).to(x).expand(2, 4)
    )
