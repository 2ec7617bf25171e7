"""Event spaces, derivatives, linear solves, random streams, errors."""

import numpy as np
import pytest
import torch
from scipy import stats

import posteria as po
from helpers import F64, normal, random_covariance
from posteria import CapabilityError, InputError, ShapeError, Space
from posteria.core import linalg
from posteria.core.errors import expect, unknown
from posteria.core.rng import SEED_LIMIT, Rng
from posteria.operators import Function


def test_reductions_stay_within_an_event() -> None:
    # Catches: a norm over the batch, with which DPS depends on its batch size.
    space, x = Space((2, 3), F64), normal(4, 5, 2, 3)
    assert torch.allclose(space.norm(x)[..., 0, 0], torch.linalg.vector_norm(x, dim=(-2, -1)))
    assert space.norm(x).shape == (4, 5, 1, 1)
    assert torch.equal(space.unflatten(space.flatten(x)), x)
    scalar = Space((), F64)
    assert torch.equal(scalar.norm(torch.tensor([-2.0, 3.0])), torch.tensor([2.0, 3.0]))
    with pytest.raises(ShapeError, match=r"y has shape \(4,\), not \(\*batch, 2, 3\)"):
        space.check(torch.zeros(4), "y")


def test_vjp_and_jvp_are_the_derivative() -> None:
    # Catches: a transposed Jacobian, a graph that a second pullback finds freed, a lost zero
    # derivative.
    a, x, v, u = normal(3, 4), normal(5, 4, seed=1), normal(5, 4, seed=2), normal(5, 3, seed=3)

    def f(z: torch.Tensor) -> torch.Tensor:
        return torch.sin(z) @ a.mT

    y, pullback = linalg.vjp(f, x)
    expected = (u @ a) * x.cos()
    assert torch.allclose(y, f(x))
    assert torch.allclose(pullback(u), expected)
    assert torch.allclose(pullback(2 * u), 2 * expected)
    assert torch.allclose(linalg.jvp(f, x, v), (v * x.cos()) @ a.mT)
    assert torch.equal(linalg.jvp(torch.round, x, v), torch.zeros_like(x))
    assert not y.requires_grad


WEIGHT = torch.ones(4, dtype=F64, requires_grad=True)
HIDDEN = {
    "constant": lambda z: torch.ones_like(z),
    "detached": lambda z: z.detach() ** 2,
    "NumPy": lambda z: torch.from_numpy(np.sin(z.detach().numpy())),
    "no_grad": torch.no_grad()(torch.sin),
    "inference_mode": torch.inference_mode()(torch.sin),
    "detached behind weights that have a graph": lambda z: WEIGHT * z.detach(),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_derivative_that_is_not_there_is_an_error(name: str) -> None:
    # Catches: zeros in its place, with which every sampler that follows a gradient draws the prior.
    f, x = HIDDEN[name], normal(5, 4)
    with pytest.raises(CapabilityError, match=r"A lens has no derivative.*ddrm, ddnm"):
        linalg.vjp(f, x, "A lens")[1](x)
    with pytest.raises(CapabilityError, match="A lens has no derivative"):
        linalg.jvp(f, x, x, "A lens")


def test_derivatives_inside_inference_mode() -> None:
    # Catches: no graph at all, or an error from inside PyTorch, for inputs that were made there.
    x = normal(5, 4)
    with torch.inference_mode():
        made = 1 * x
        value, pullback = linalg.vjp(torch.sin, made)
        assert torch.equal(pullback(made), x * x.cos())
        assert torch.allclose(linalg.jvp(torch.sin, made, made), x * x.cos())
    assert torch.equal(value, x.sin())
    with pytest.raises(
        CapabilityError, match=r"The network holds tensors .* build or load it outside"
    ):
        linalg.vjp(lambda z: (z * made).sin(), x, "The network")


def test_the_directional_derivative_of_fused_attention() -> None:
    # Catches: fused kernels, whose backward pass has no derivative; every image decoder has them.
    x, v = normal(2, 1, 8, 4), normal(2, 1, 8, 4, seed=1)

    def attend(z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(z, z, z)

    expected = (attend(x + 1e-5 * v) - attend(x - 1e-5 * v)) / 2e-5
    assert torch.allclose(linalg.jvp(attend, x, v), expected, rtol=1e-6, atol=1e-8)


def test_conjugate_gradient_solves_each_sample_by_itself() -> None:
    # Catches: one residual norm for the whole batch, after which a hard sample changes the answer
    # of an easy one.
    space, m = Space((6,), F64), random_covariance(6)
    b = normal(3, 6) * torch.tensor([1e-6, 1.0, 1e6], dtype=F64)[:, None]
    solve = lambda rhs: linalg.conjugate_gradient(  # ruff: ignore[lambda-assignment]
        lambda z: z @ m, rhs, space, iterations=50, tolerance=1e-13
    )
    exact = torch.linalg.solve(m, b.mT).mT
    assert ((solve(b) - exact).norm(dim=1) / exact.norm(dim=1)).max() < 1e-10
    for i in range(3):
        assert torch.equal(solve(b[i : i + 1])[0], solve(b)[i])
    assert torch.equal(solve(torch.zeros(1, 6, dtype=F64)), torch.zeros(1, 6, dtype=F64))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int32, torch.complex64, torch.bool]
)
def test_samples_are_of_single_or_double_precision(dtype: torch.dtype) -> None:
    # Catches: samples in half precision, which come out as nan, or in integers.
    with pytest.raises(InputError, match=f"float32 or float64, not of {dtype}"):
        Space((3,), dtype)
    with pytest.raises(InputError, match="float32 or float64"):
        Function(lambda x: x.to(dtype), (3,))


def test_a_stream_belongs_to_its_seed() -> None:
    # Catches: torch.randn under one seed, whose first row is another for batch 1 and batch 8.
    space = Space((5, 7))
    many, one = Rng([3, 4, 5]), Rng([4])
    for _ in range(3):
        assert torch.equal(many.normal(space)[1], one.normal(space)[0])
    assert torch.equal(many.normal(space, 2)[1], one.normal(space, 2)[0])
    assert torch.equal(many.uniform()[1], one.uniform()[0])


def test_draws_have_the_law() -> None:
    rng = Rng(range(2000))
    x = rng.normal(Space((3,), F64)).flatten().numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.kstest(rng.uniform().numpy(), "uniform").pvalue > 1e-3
    counts = rng.poisson(torch.full((2000,), 4.0, dtype=F64)).numpy()
    observed = np.bincount(counts.astype(int), minlength=13)[:13]
    expected = stats.poisson.pmf(np.arange(13), 4.0)
    assert stats.chisquare(observed, observed.sum() * expected / expected.sum()).pvalue > 1e-3


def test_two_seeds_or_streams_never_share_numbers() -> None:
    # Catches: PyTorch's CPU generator drops all but 32 bits of a seed, so that 0 and 2^32 would be
    # one sample; measurement noise drawn from the stream of the sample that it is used for.
    space = Space((4,))
    assert not torch.equal(Rng([0]).normal(space), Rng([1]).normal(space))
    assert not torch.equal(Rng([0]).normal(space), Rng([0], stream=1).normal(space))
    for seed in (-1, SEED_LIMIT):
        with pytest.raises(InputError, match="A seed is an integer from 0"):
            Rng([seed])
    with pytest.raises(InputError, match="There are no seeds"):
        Rng([])
    # Catches: a mask, or a switch, read as the seeds 0 and 1.
    for seeds in (True, [True, False], torch.tensor([True, False]), np.array([True]), "12"):
        with pytest.raises(InputError, match="Seeds are one integer a sample"):
            Rng(seeds)  # type: ignore[arg-type]


def test_streams_resume() -> None:
    # Catches: restoring every stream from the first one's state.
    rng, space = Rng([1, 2, 3]), Space((3,))
    rng.normal(space)
    state = rng.state().clone()
    ahead = rng.normal(space)
    rng.restore(state)
    assert torch.equal(rng.normal(space), ahead)


def test_errors_name_who_needs_what() -> None:
    assert expect(3, int, by="x") == 3
    with pytest.raises(CapabilityError, match=r"DDRM needs an SVDOperator; this is a Phase\."):

        class SVDOperator: ...

        class Phase: ...

        expect(Phase(), SVDOperator, by="DDRM")
    assert "Did you mean 'mgdm'?" in str(unknown("sampler", "mgmd", ["mgdm", "dps"]))


def test_masked_entries_are_no_numbers() -> None:
    # Catches: what lies under a mask taken for measured values, as it comes out of NetCDF and FITS files.
    prior = po.Gaussian(torch.zeros(3), torch.eye(3))
    likelihood = po.GaussianLikelihood(po.operators.Identity((3,)), std=0.1)
    masked = np.ma.masked_greater(np.array([1.0, 2.0, 1e20]), 1e9)
    with pytest.raises(InputError, match=r"The measurement has masked entries: fill them"):
        po.Posterior(prior, likelihood, masked)
    whole = np.ma.masked_greater(np.array([1.0, 2.0, 3.0]), 1e9)
    assert po.Posterior(prior, likelihood, whole).y.tolist() == [1.0, 2.0, 3.0]
