"""The inner fit of MGPS and MGDM."""

from typing import Any

import pytest
import torch

import posteria as po
from helpers import F64, normal, random_covariance
from posteria.core.rng import Rng
from posteria.samplers.fitted.gaussian_vi import Adam, InnerSteps, Normal, fit


def test_adam_is_pytorch_s() -> None:
    # Catches: a missing bias correction, eps inside the root, moments that one sample shares with
    # another.
    theta = normal(3, 4).requires_grad_()
    target, scale = normal(3, 4, seed=1), torch.tensor([1e-6, 1.0, 1e6], dtype=F64)[:, None]
    optimizer = torch.optim.Adam([theta], lr=0.05)
    ours, moments = (
        theta.detach().clone(),
        [torch.zeros(3, 4, dtype=F64), torch.zeros(3, 4, dtype=F64)],
    )
    for count in range(1, 30):
        optimizer.zero_grad()
        (scale * (theta - target) ** 2).sum().backward()
        optimizer.step()
        ours = ours - Adam(0.05).step(2 * scale * (ours - target), moments, count)
        assert torch.allclose(ours, theta.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("sampled_kl", [False, True])
def test_optimum_for_a_gaussian_potential(sampled_kl: bool) -> None:
    # Catches: a wrong sign or factor in either gradient. The optimum has the exact mean and
    # variances 1 / diag(precision).
    d, n = 3, 400
    extra, center = random_covariance(d, seed=4).inverse(), normal(d, seed=2)
    reference = Normal(normal(n, d), 0.7)
    fitted = fit(
        lambda u: -(u - center) @ extra,
        reference,
        reference,
        Rng(range(n)),
        steps=2000,
        lr=0.004,
        sampled_kl=sampled_kl,
    )
    total = torch.eye(d, dtype=F64) / 0.49 + extra
    exact = torch.linalg.solve(total, (reference.mean / 0.49 + center @ extra).mT).mT
    std = total.diagonal() ** -0.5
    assert ((fitted.mean - exact).mean(0) / std).abs().max() < 0.01
    assert ((fitted.mean - exact) / std).abs().max() < 0.3
    assert (fitted.std.mean(0) / std - 1).abs().max() < 0.02


def test_flat_potential_stays_at_the_reference() -> None:
    # Catches: drift without any data. In closed form the gradient is exactly 0 at the start.
    reference = Normal(normal(5, 3), 0.4)
    fitted = fit(torch.zeros_like, reference, reference, Rng(range(5)), steps=20, lr=0.1)
    assert torch.allclose(fitted.mean, reference.mean, atol=1e-9)
    assert torch.allclose(fitted.std, torch.full((5, 3), 0.4, dtype=F64), atol=1e-7)


def test_unit_of_the_means_is_a_change_of_coordinates() -> None:
    # Catches: the papers' step size applied in x rather than in x / sqrt(1 + sigma^2).
    reference, c = Normal(normal(2, 3), 0.4), 25.0
    small = fit(lambda u: -u, reference, reference, Rng([0, 1]), steps=10, lr=0.1)
    scaled = Normal(c * reference.mean, c * 0.4)
    large = fit(lambda u: -u / c**2, scaled, scaled, Rng([0, 1]), steps=10, lr=0.1, scale=c)
    assert torch.allclose(large.mean, c * small.mean)
    assert torch.allclose(large.std, c * small.std)  # type: ignore[arg-type]


def test_which_levels_get_how_many_steps() -> None:
    rule = InnerSteps(2, last=(20, 3), first=(10, 20), every=(10, 0, 7))
    assert [rule(i, 299) for i in (2, 20, 21, 30, 289, 290, 299)] == [3, 3, 2, 7, 2, 20, 20]
    assert InnerSteps(5)(3, 10) == 5
    # Catches: a division by a period of 0 in the middle of a run, and steps below 0, which are none.
    wrong: list[dict[str, Any]] = [{"every": (0, 0, 5)}, {"last": (9, -1)}, {"first": 9}]
    for settings in [*wrong, {"last": (9, 2, 3)}, {"first": (1.5, 2)}]:
        with pytest.raises(po.InputError, match=f"{next(iter(settings))} of InnerSteps"):
            InnerSteps(**settings)
