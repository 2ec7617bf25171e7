"""The battery of operators itself: it finds planted bugs, whatever the gain, and takes what is right."""

import copy

import pytest
import torch
from typing_extensions import override

import posteria as po
from helpers import F64, normal
from posteria.operators import Blur, Clip, Function, Identity, Inpainting, LinearFunction, Matrix
from posteria.testing import check_operator


class Affine(Identity):
    """What is not linear and says that it is."""

    @override
    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_battery_finds_planted_bugs() -> None:
    # A wrong adjoint, a norm over the batch, a derivative that does not pass, a solve or a part of
    # a decomposition that an operator has of its own.
    wrong = LinearFunction(lambda x: x.cumsum(-1), (4,))
    wrong.apply_adjoint = lambda y: y.cumsum(-1)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"not adjoint|A\^T u"):
        check_operator(wrong)
    with pytest.raises(AssertionError, match="alone and in a batch"):
        check_operator(Function(lambda x: x / x.norm(), (4,)))
    with pytest.raises(AssertionError, match="jvp is not the derivative"):
        check_operator(Function(lambda x: x.detach() ** 2 + 0 * x, (4,)))
    with pytest.raises(AssertionError, match=r"is not linear|jvp is not"):
        check_operator(Affine((4,)))
    forgetful = Matrix(normal(4, 6))
    forgetful.innovation_solve = lambda r, noise, signal: r / noise  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="innovation_solve does not solve"):
        check_operator(forgetful)
    shifted = Inpainting(torch.tensor([True, False, True]))
    shifted.vt_seen = lambda x: x[..., :2]  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="vt_seen is not the first part of vt"):
        check_operator(shifted)
    lopsided = Matrix(normal(4, 6))
    lopsided.v = lambda c: c @ normal(6, 6)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"V V.T is not the identity|does not solve"):
        check_operator(lopsided)


def test_battery_in_single_precision() -> None:
    # Catches: a layer of a network, which takes its own dtype alone, that is no operator; its pseudo-inverse, whose
    # iterates run away where they follow rounding; a clip, at whose edges no difference is a derivative.
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3, bias=False, stride=2)
    operator = LinearFunction(layer, (3, 32, 32))
    for right in (operator, Clip(operator.codomain.shape) @ operator):
        with pytest.warns(UserWarning, match=r"takes no float64: it is checked in torch\.float32"):
            check_operator(right)
    planted = copy.copy(operator)
    transposed = torch.nn.functional.conv_transpose2d
    planted.apply_adjoint = lambda y: (
        1.01 * transposed(y, layer.weight, stride=2, output_padding=1)
    )  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="not adjoint"), pytest.warns(UserWarning):
        check_operator(planted)
    prior = po.Gaussian(torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64))
    target = po.Posterior(
        prior,
        po.GaussianLikelihood(LinearFunction(torch.nn.Linear(4, 3, bias=False), (4,)), 0.1),
        torch.zeros(3),
    )
    with pytest.raises(po.InputError, match=r"made for signals of torch\.float32, and fails for"):
        po.DPS().sample(target, seeds=[0])


@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_battery_is_relative_to_the_gain(gain: float) -> None:
    # Catches: errors that are absolute, with which a large gain fails by rounding and a small one passes whatever it
    # does; an ill-posed blur whose pseudo-inverse is the limit of a slow iteration.
    a = gain * normal(3, 4)
    for right in (Matrix(a), LinearFunction(lambda x: x @ a.mT, po.Space((4,), F64))):
        check_operator(right)
        for name, wrong in {
            "apply_adjoint": lambda y: 1.001 * y @ a,
            "pinv": lambda y: 1.01 * Matrix(a).pinv(y),
            "normal_solve": lambda b, shift: Matrix(a).normal_solve(b, 1.001 * shift),
            "innovation_solve": lambda r, n, s: Matrix(a).innovation_solve(r, n, 1.001 * s),
            "apply": lambda x: x @ a.mT + 1e-3 * gain * x[..., :3] ** 2,
        }.items():
            planted = copy.copy(right)
            setattr(planted, name, wrong)
            with pytest.raises(AssertionError):
                check_operator(planted)
    check_operator(Blur(gain * normal(3, 3).abs(), (1, 9, 8)))
    check_operator(LinearFunction(lambda x: x.cumsum(-1), (2_000,)))
