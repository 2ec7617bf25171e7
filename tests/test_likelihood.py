"""Likelihoods against torch.distributions and differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, Poisson

import posteria as po
from helpers import F64, gaussian, normal
from posteria.core.rng import Rng
from posteria.operators import Clip, Function, Matrix
from posteria.testing import check_likelihood, check_operator

A = normal(3, 4)
LINEAR = Matrix(A)
POSITIVE = Function(lambda x: (x @ A.to(x).mT).exp(), (4,))


@pytest.mark.parametrize(
    "std", [0.3, torch.tensor([0.1, 1.0, 3.0], dtype=F64)], ids=["one", "entries"]
)
def test_gaussian(std: float | torch.Tensor) -> None:
    likelihood = po.GaussianLikelihood(LINEAR, std=std)
    x, y = normal(5, 4), normal(3, seed=2)
    expected = Normal(x @ A.mT, std).log_prob(y).sum(-1)
    assert torch.allclose(likelihood.log_prob(y, x), expected)
    check_likelihood(likelihood, x, y)
    check_likelihood(po.GaussianLikelihood(Clip((4,)), std=0.5), 0.3 * x, normal(4, seed=3))


def test_poisson() -> None:
    likelihood = po.PoissonLikelihood(POSITIVE, peak=20.0)
    x = 0.3 * normal(5, 4)
    y = likelihood.sample(x[:1], Rng([0]))[0]
    expected = Poisson(20 * (x @ A.mT).exp()).log_prob(y).sum(-1)
    assert torch.allclose(likelihood.log_prob(y, x), expected)
    check_likelihood(likelihood, x, y, tolerance=1e-5)
    # Below the floor the log-density is flat in the clamped rate but still pulls the sample back.
    dark = po.PoissonLikelihood(Matrix(torch.eye(4, dtype=F64)), peak=20.0)
    x = -torch.ones(1, 4, dtype=F64)
    assert dark.log_prob(torch.ones(4, dtype=F64), x).isfinite().all()
    assert (dark.score(torch.ones(4, dtype=F64), x) > 0).all()


def test_a_user_s_own() -> None:
    own = po.FunctionLikelihood(lambda y, x: -((y - x @ A.mT).abs() ** 3).sum(-1))
    x, y = normal(5, 4), normal(3, seed=2)
    check_likelihood(own, x, y)
    with pytest.raises(po.CapabilityError, match="cannot simulate"):
        own.sample(x, Rng(range(5)))
    target = po.Posterior(gaussian(), own, y)
    assert po.MGDM(schedule=po.schedules.Table(steps=5)).sample(target, seeds=[0]).isfinite().all()


def test_simulated_noise_has_its_level_and_its_seed() -> None:
    likelihood = po.GaussianLikelihood(LINEAR, std=torch.tensor([0.1, 1.0, 3.0], dtype=F64))
    x = normal(1, 4).expand(4000, 4)
    y = likelihood.sample(x, Rng(range(4000)))
    spread = (y - LINEAR(x)).std(0) / likelihood.std
    assert (spread - 1).abs().max() < 0.05
    assert torch.allclose(likelihood.sample(x[:1], Rng([7]))[0], y[7], rtol=1e-14)


def test_noise_is_simulated_of_rows() -> None:
    # Catches: one signal of as many entries as there are seeds, each entry with the noise of another stream.
    for likelihood in (
        po.GaussianLikelihood(Matrix(A), 0.1),
        po.PoissonLikelihood(POSITIVE, peak=9.0),
    ):
        for x, n in ((normal(4), 3), (normal(2, 4), 3), (normal(2, 3, 4), 3)):
            with pytest.raises(po.ShapeError, match=r"signals \[n, \*event\] with n seeds"):
                likelihood.sample(x, Rng(range(n)))
        assert likelihood.sample(normal(3, 2, 4), Rng(range(3))).shape == (3, 2, 3)


@pytest.mark.parametrize("kind", [float, np.float32, np.array, torch.tensor, lambda v: [v] * 3])
def test_a_noise_level_of_any_kind(kind: Callable[[float], Any]) -> None:
    # Catches: a number of NumPy that stays one in the record and in products with tensors; an array that is none.
    likelihood = po.GaussianLikelihood(LINEAR, std=kind(0.25))
    assert isinstance(likelihood.std, float | torch.Tensor)
    x, y = normal(5, 4), normal(3, seed=2)
    exact = po.GaussianLikelihood(LINEAR, std=0.25)
    assert torch.equal(likelihood.log_prob(y, x), exact.log_prob(y, x))
    assert kind not in {float, np.float32} or repr(likelihood) == repr(exact)


def test_posterior_takes_its_parts_to_the_prior_s_precision() -> None:
    # Catches: single precision creeping in from an operator that was made without a dtype.
    target = po.Posterior(
        gaussian(),
        po.GaussianLikelihood(po.operators.Identity((4,)), std=torch.ones(4)),
        torch.ones(4),
    )
    assert target.y.dtype == F64
    assert target.likelihood.score(target.y, normal(1, 4)).dtype == F64


def test_the_battery_is_of_likelihoods_in_double() -> None:
    # Catches: rounding of single precision that is called a wrong score.
    with pytest.raises(AssertionError, match=r"these are \(5, 4\) in torch\.float32"):
        check_likelihood(po.GaussianLikelihood(LINEAR, 0.3), normal(5, 4).float(), normal(3))
    with pytest.raises(po.CapabilityError, match="check_likelihood needs a Likelihood"):
        check_likelihood(LINEAR, normal(5, 4), normal(3))  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="check_operator needs an Operator"):
        check_operator(lambda x: x)  # type: ignore[arg-type]


def test_one_entry_is_one_level() -> None:
    # Catches: a list or an array of one level that is taken for one of the shape of the measurement.
    y, x = normal(3), normal(5, 4)
    expected = po.GaussianLikelihood(LINEAR, 0.3).log_prob(y, x)
    for std in ([0.3], torch.tensor([0.3], dtype=torch.float64)):
        likelihood = po.GaussianLikelihood(LINEAR, std)  # type: ignore[arg-type]
        assert torch.allclose(likelihood.log_prob(y, x), expected)


def test_bad_input() -> None:
    for std in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(po.InputError, match="noise level is a number above 0"):
            po.GaussianLikelihood(LINEAR, std=std)
    with pytest.raises(po.InputError, match="above 0 in every entry"):
        po.GaussianLikelihood(LINEAR, std=torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(po.ShapeError, match=r"std has shape \(2,\)"):
        po.GaussianLikelihood(LINEAR, std=torch.ones(2))
    for kind, number in (("Gaussian", 0.1), ("Poisson", 9.0)):
        with pytest.raises(
            po.CapabilityError, match=f"{kind}Likelihood needs an Operator; this is a function"
        ):
            getattr(po, f"{kind}Likelihood")(lambda x: x, number)
    for peak, floor in (("9", 0.1), (0.0, 0.1), (9.0, float("inf")), (9.0, float("nan"))):
        with pytest.raises(
            po.InputError, match="peak and the floor of counts are numbers above 0"
        ):
            po.PoissonLikelihood(POSITIVE, peak, floor)  # type: ignore[arg-type]
    likelihood = po.GaussianLikelihood(LINEAR, std=1.0)
    with pytest.raises(po.ShapeError, match=r"y has shape \(4,\), not \(\*batch, 3\)"):
        po.Posterior(gaussian(), likelihood, torch.zeros(4))
    with pytest.raises(po.InputError, match="2 entries that are NaN"):
        po.Posterior(gaussian(), likelihood, torch.tensor([1.0, torch.nan, torch.inf]))
    with pytest.raises(po.ShapeError, match=r"prior draws signals of shape \(5,\)"):
        po.Posterior(gaussian(5), likelihood, torch.zeros(3))
    # Catches: a measurement that is broadcast to the operator's, counts below 0, a log-density
    # of the whole batch.
    counts = po.PoissonLikelihood(POSITIVE, peak=20.0)
    with pytest.raises(
        po.InputError, match="Counts are at least 0; this measurement goes down to -1"
    ):
        po.Posterior(gaussian(), counts, torch.tensor([1.0, -1.0, 3.0]))
    for each in (likelihood, counts):
        for measure in (each.log_prob, each.score, getattr(each, "misfit", each.score)):
            with pytest.raises(po.ShapeError, match="y has shape"):
                measure(torch.ones(1, dtype=F64), normal(5, 4))
    for function in (
        lambda y, x: -(x**2).sum(),
        lambda y, x: -(x**2).sum(-1, keepdim=True),
        lambda y, x: -(x**2).sum(0),
    ):
        with pytest.raises(po.ShapeError, match="one number for each signal"):
            po.FunctionLikelihood(function).log_prob(torch.zeros(3), normal(5, 4))
    two = po.Posterior(gaussian(), likelihood, torch.zeros(2, 3))
    with pytest.raises(po.ShapeError, match="2 measurements for 3 seeds"):
        po.DPS(schedule=po.schedules.Table(steps=3)).sample(two, seeds=range(3))
