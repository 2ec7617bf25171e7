"""Tilted laws, with what is known of them and with the models that rules ask for."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from typing_extensions import override

import posteria as po
from posteria.analytic import Gaussian, GaussianMixture, TiltedQuadrature
from posteria.core.meter import Meter
from posteria.diffusion.denoiser import Counted
from posteria.guidance.classifiers.classifier import Classifier
from posteria.metrics.distribution import mode_weights, sliced_wasserstein, two_sample_floor
from posteria.problems.tilted import TILTED_PROBLEMS, TiltedProblem

Law = Gaussian | GaussianMixture
# Sets of exact draws behind a floor, and draws behind the shares of modes.
SETS, MANY = 8, 100_000
# Share of the class among all; small enough that a class never is more likely than all.
SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class Tilt:
    """What is drawn from: one tilted law, or one for each class.

    Args:
        targets: The laws, of which `each` samples are drawn, with `seed`.
        exact: The answer, if it is known; there is one law then.
        reference: Makes the pictures that samples are compared with, if it is not.
        models: What rules may ask for beside the prior, by the names of their fields.
        meter: What those models have been asked; classifiers are not counted.
        batch: Samples at a time.
    """

    targets: tuple[po.Tilted, ...]
    each: int
    seed: int
    exact: TiltedProblem | None = None
    reference: Callable[[], Tensor] | None = None
    models: Mapping[str, object] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    batch: int = 8192


class OfLaws(Classifier):
    """The exact p(c | x) of one rare class, label 0, from the law of the class and that of all, at every level."""

    noisy = True

    def __init__(self, given: Law, free: Law) -> None:
        self.given, self.free = given, free
        self.space, self.labels = given.space, 2

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        level = float(sigma)
        given, free = (law.noised(level) if level else law for law in (self.given, self.free))
        whole = free.log_prob(x)
        own = (math.log(SHARE) + given.log_prob(x) - whole).clamp(max=-1e-6)
        return torch.stack([own, torch.log1p(-own.exp())], -1)


def widened(law: Law) -> Law:
    """A weaker model: its modes are three times as wide in variance."""
    if isinstance(law, Gaussian):
        return Gaussian(law.mean, 3 * law.covariance)
    return GaussianMixture(law.weights, law.means, 3 * law.covariances)


def known(name: str, weight: float | None, each: int, seed: int) -> Tilt:
    """A problem with an exact answer, of `TILTED_PROBLEMS`; at its own weight where none is given."""
    make = TILTED_PROBLEMS[name]
    problem = make() if weight is None else make(weight=weight)
    given, free = problem.target.conditional, problem.target.unconditional
    if not isinstance(given, Law) or not isinstance(free, Law):
        raise TypeError(f"{name} is of other laws than Gaussians and mixtures")
    classifier, meter, weak = OfLaws(given, free), Meter(), widened(given)
    models = {
        "weak": Counted(po.Family(weak, {0: weak}), meter),
        # The class is what tuning has made of all; with guidance=0 the tilt is the same.
        "tuned": Counted(po.Family(given, {0: given}), meter),
        "classifier": classifier,
        "evaluators": (lambda x, sigma: classifier.log_prob(0, x, sigma),),
    }
    return Tilt((problem.target,), each, seed, exact=problem, models=models, meter=meter)


def distance(problem: TiltedProblem, x: Tensor, seed: int) -> float:
    """Wasserstein-1 in one dimension, and to as many exact draws and sliced in more."""
    if isinstance(problem.exact, TiltedQuadrature) and problem.target.space.size == 1:
        return problem.wasserstein(x)
    generator = torch.Generator().manual_seed(seed + 1)
    return sliced_wasserstein(x, problem.exact.sample(len(x), generator))


def floor(problem: TiltedProblem, n: int) -> float:
    """What that distance is for exact draws."""
    if isinstance(problem.exact, TiltedQuadrature) and problem.target.space.size == 1:
        generator = torch.Generator().manual_seed(0)
        sets = [problem.exact.sample(n, generator) for _ in range(SETS)]
        return sum(problem.wasserstein(x) for x in sets) / SETS
    return two_sample_floor(problem.exact.sample, n, repetitions=SETS).mean


def shares(problem: TiltedProblem, x: Tensor) -> Tensor | None:
    """The shares of samples in the modes of the conditional law; None if it has one mode."""
    law = problem.target.conditional
    if not isinstance(law, GaussianMixture) or not x.isfinite().all():
        return None
    return mode_weights(x.to(law.means), law)


@dataclass(frozen=True)
class Mass:
    """How the tilt shares out its mass: what it moves from mode to mode, from 0 to 1, and the shares of the modes."""

    moved: float
    of_modes: Tensor


def mass(problem: TiltedProblem) -> Mass | None:
    """What is known of the modes; None if the law has one."""
    law = problem.target.conditional
    drawn = problem.exact.sample(MANY, torch.Generator().manual_seed(0))
    of_modes = shares(problem, drawn)
    if of_modes is None or not isinstance(law, GaussianMixture):
        return None
    moved = float((of_modes - law.weights.double()).abs().sum() / 2)
    return Mass(moved, of_modes)


# Priors, loaded once in a process.
load = lru_cache(maxsize=1)(po.load_prior)


@lru_cache(maxsize=4)
def conditional(prior: str, labels: tuple[int, ...], count: int, device: str) -> Tensor:
    """Draws of the conditional law, made once in a process: the reference where there are no pictures."""
    sampler = po.Guided(rule=po.CFG(weight=1.0), schedule=po.Karras(steps=18))
    drawn = []
    for label in labels:
        target = po.Tilted(load(prior, device=device), po.Label(label), 1.0)
        # Seeds that are not those of samples.
        seeds = range(2**31 + label * count, 2**31 + (label + 1) * count)
        parts = [sampler.sample(target, seeds[k : k + 64]) for k in range(0, count, 64)]
        drawn.append(torch.cat(parts).cpu())
    return torch.cat(drawn)


def with_models(part: object, models: Mapping[str, object]) -> object:
    """A sampler, or a part of one, with the models that it has a field for."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    changes: dict[str, object] = {}
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        if one.name in models:
            changes[one.name] = models[one.name]
        elif dataclasses.is_dataclass(value):
            changes[one.name] = with_models(value, models)
    return dataclasses.replace(part, **changes) if changes else part
