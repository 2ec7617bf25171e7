"""What the tests of moment matching share."""

from typing import Any

from torch import Tensor

import posteria as po
from helpers import normal, random_covariance
from posteria.guidance import StepInfo
from posteria.samplers.ruled import LGD, MMPS, TMPD, PiGDM, RuledSampler

TEN = po.schedules.Table(steps=10)
SMALL: dict[str, po.samplers.Sampler[Any]] = {
    "mmps": MMPS(schedule=TEN),
    "pigdm": PiGDM(schedule=TEN),
    "pigdm published": PiGDM(schedule=TEN, prior_std=1.0, order=1, strength=1.0),
    "tmpd": TMPD(schedule=TEN),
    "lgd": LGD(schedule=TEN, points=8),
}


def correlated(scale: float = 1.0, d: int = 8) -> po.Posterior:
    prior = po.Gaussian(scale * normal(d), scale**2 * random_covariance(d))
    likelihood = po.GaussianLikelihood(po.operators.Matrix(normal(4, d, seed=1)), std=0.5 * scale)
    return po.Posterior(prior, likelihood, 2 * scale * normal(4, seed=2))


def estimate(sampler: RuledSampler, target: po.Posterior, x: Tensor, sigma: float) -> Tensor:
    """E[x_0 | x, y] by the rule of a sampler."""
    rule = sampler.rule
    return rule(rule.arrange(target), x, StepInfo(sigma, 0.0, 0, 1), {}).x0


def exact(target: po.Posterior) -> po.Gaussian:
    assert isinstance(target.prior, po.Gaussian)
    return target.prior.posterior(target.likelihood, target.y)
