"""What the tests of guidance adaptive share."""

from collections import deque
from functools import cache

import torch
from torch import Tensor

import posteria as po
from helpers import F64, normal
from posteria.core.meter import Cost
from posteria.guidance.base import TiltedRule
from posteria.guidance.classifiers.classifier import BayesClassifier
from posteria.guidance.tilted.linear_ag import LinearAG
from posteria.samplers.guided import GuidedState

MANY = 200


def laws(means: Tensor, variance: float) -> list[po.GaussianMixture]:
    """Class k has every third component, from the k-th."""
    covariances = variance * torch.eye(means.shape[1], dtype=F64).expand(len(means) // 3, -1, -1)
    weights = torch.ones(len(means) // 3, dtype=F64)
    return [po.GaussianMixture(weights, means[k::3], covariances) for k in range(3)]


def mixture(means: Tensor, variance: float, weights: Tensor) -> po.GaussianMixture:
    covariances = variance * torch.eye(means.shape[1], dtype=F64).expand(len(means), -1, -1)
    return po.GaussianMixture(weights, means, covariances)


@cache
def sharp(weight: float = 3.0, seed: int = 33) -> po.Tilted:
    """Three classes of four narrow components in eight dimensions, and the first of them (fixture G3)."""
    means = 2 * normal(12, 8, seed=seed)
    free = mixture(means, 0.05, torch.ones(12, dtype=F64))
    return po.Tilted(po.Family(free, dict(enumerate(laws(means, 0.05)))), po.Label(0), weight)


class Leaky:
    """Three overlapping classes whose conditional laws put 30 % of their mass elsewhere (fixture G5)."""

    def __init__(self, leak: float = 0.3, variance: float = 0.25) -> None:
        means = normal(12, 8, seed=2)
        self.free = mixture(means, variance, torch.ones(12, dtype=F64))
        members = {}
        for k in range(3):
            weights = torch.full((12,), leak / 8, dtype=F64)
            weights[k::3] = (1 - leak) / 4
            members[k] = mixture(means, variance, weights)
        self.family = po.Family(self.free, members)
        self.classes = laws(means, variance)
        self.classifier = BayesClassifier(self.classes)
        self.target = po.Tilted(self.family, po.Label(0), 3.0)

    def align(self, x: Tensor, sigma: float) -> Tensor:
        return self.classifier.log_prob(0, x, sigma)

    def quality(self, x: Tensor, sigma: float) -> Tensor:
        return (self.free.noised(sigma) if sigma else self.free).log_prob(x)

    def judge(self, rule: TiltedRule, n: int = 1000) -> tuple[float, float]:
        """Share of samples that Bayes' rule gives to the class, and their Frechet distance to it."""
        x = last(rule, self.target, range(n), steps=30).x
        law = self.classes[0]
        mean = law.weights @ law.means
        spread = law.means - mean
        cov = law.covariances[0] + spread.mT @ (law.weights[:, None] * spread)
        root = square_root(cov)
        cross = square_root(root @ x.mT.cov() @ root)
        gap = (x.mean(0) - mean).square().sum() + (x.mT.cov() + cov - 2 * cross).trace()
        accuracy = (self.classifier(x).argmax(-1) == 0).double().mean()
        return float(accuracy), float(gap)


def square_root(a: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.mT


leaky = cache(Leaky)


def sampler(rule: TiltedRule, steps: int = 20) -> po.Guided:
    return po.Guided(rule=rule, solver=po.DDIM(), schedule=po.schedules.Table(steps=steps))


def last(rule: TiltedRule, target: po.Tilted, seeds: range, steps: int = 20) -> GuidedState:
    return deque(sampler(rule, steps).iterate(target, seeds), maxlen=1)[0]


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def counted(target: po.Tilted) -> tuple[po.Tilted, po.diffusion.Counted]:
    prior = po.diffusion.Counted(target.prior)
    return po.Tilted(prior, target.condition, target.weight), prior


def metered(rule: TiltedRule, target: po.Tilted, seeds: range) -> tuple[GuidedState, Cost]:
    """The last state, and what a sample has cost."""
    watched, prior = counted(target)
    return last(rule, watched, seeds), prior.meter.cost(len(seeds))


# LinearAG ---------------------------------------------------------------------------------------


@cache
def linear(share: float = 0.5) -> LinearAG:
    return LinearAG.fit(sharp(), po.schedules.Table(steps=20), range(1000, 1200), share=share)
