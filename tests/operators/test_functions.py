"""Functions of the user as operators."""

import numpy as np
import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian
from posteria.operators import (
    Function,
    LinearFunction,
    Matrix,
)
from posteria.testing import check_operator


def _inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.cumsum(-1)


def _no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.cumsum(-1)


DISCONNECTED = {
    "NumPy": lambda x: torch.from_numpy(np.cumsum(x.numpy(), -1)),
    "NumPy, detached": lambda x: torch.from_numpy(np.cumsum(x.detach().numpy(), -1)),
    "detached": lambda x: x.detach().cumsum(-1),
    "no_grad": _no_grad,
    "inference_mode": _inference,
    "constant": lambda x: torch.ones_like(x),
}


@pytest.mark.parametrize("name", DISCONNECTED)
def test_a_function_without_a_derivative(name: str) -> None:
    # Catches: a gradient of 0 in its place, with which every gradient sampler draws the prior.
    prior = gaussian(4)
    operator = Function(DISCONNECTED[name], prior.space)
    y = torch.full((4,), 2.0, dtype=F64)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.1), y)
    for sampler in (po.DPS(), po.MGDM(), po.MGPS()):
        with pytest.raises(
            po.CapabilityError, match=r"Function\(.*\): \(4,\) -> \(4,\) has no deriv"
        ):
            sampler.sample(target, seeds=[0])
    if name == "constant":
        return
    # With its adjoint it is a linear operator that needs no autograd, and has the law of its matrix.
    adjoint = LinearFunction(
        DISCONNECTED[name], prior.space, adjoint=lambda v: v.flip(-1).cumsum(-1).flip(-1)
    )
    matrix = Matrix(torch.ones(4, 4, dtype=F64).tril())
    drawn = [
        po.MMPS().sample(po.Posterior(prior, po.GaussianLikelihood(a, std=0.1), y), seeds=[0, 1])
        for a in (adjoint, matrix)
    ]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-5)


def test_a_linear_function_is_linear() -> None:
    # Catches: an offset that is in y and in every derivative, a nonlinear map whose adjoint at 0 is taken for its own,
    # and for the adjoint an inverse, a wrong scale, or a convolution that is not turned around.
    for function in (
        lambda x: (x + 1) / 2,
        lambda x: x**2,
        torch.abs,
        lambda x: x.median(-1, keepdim=True).values,
        lambda x: x + torch.rand_like(x),
        lambda x: x / x.norm(dim=-1, keepdim=True),
    ):
        with pytest.raises(po.InputError, match="is not linear"):
            LinearFunction(function, (5,))
    for wrong in (lambda y: y / 2, lambda y: y, lambda y: -2 * y, lambda y: 2 * y.roll(1, -1)):
        with pytest.raises(po.InputError, match="is not its adjoint"):
            LinearFunction(lambda x: 2 * x, (5,), adjoint=wrong)
    with pytest.raises(po.ShapeError, match=r"took \(2, 3\) to \(2, 3\), not \(2, 5\)"):
        LinearFunction(lambda x: x[:, :3], (5,), adjoint=lambda y: y)


def test_a_function_of_or_to_one_number() -> None:
    # Catches: a signal without batch axes whose shape, or that of its measurement, is (), which ended inside PyTorch.
    mean = LinearFunction(lambda x: x.mean((-1, -2)), (2, 3))
    twice = LinearFunction(lambda x: 2 * x, (), adjoint=lambda y: 2 * y)
    assert torch.equal(mean(torch.arange(6.0).reshape(2, 3)), torch.tensor(2.5))
    assert twice(torch.tensor(1.5)) == twice.adjoint(torch.tensor(1.5)) == 3
    for operator in (mean, twice, twice @ mean, LinearFunction(lambda x: 2 * x, ())):
        check_operator(operator)


def test_a_function_gives_tensors() -> None:
    # Catches: an array that fails inside torch, a function that loses the batch.
    with pytest.raises(po.InputError, match="gives a tensor; this one gives ndarray"):
        Function(lambda x: x.numpy(), (3,))  # type: ignore[arg-type, return-value]
    with pytest.raises(po.ShapeError, match=r"took \(2, 3\) to \(3,\)"):
        Function(lambda x: x.sum(0), (3,))
