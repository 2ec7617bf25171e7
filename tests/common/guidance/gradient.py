"""What the tests of guidance gradient share."""

import torch
from torch import Tensor

import posteria as po
from helpers import F64, mixture, normal
from posteria.core.meter import Meter
from posteria.core.space import Space
from posteria.guidance.classifiers.classifier import BayesClassifier, Classifier, CleanClassifier
from posteria.target import Tilted

SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
STEPS = po.schedules.LogLinear(steps=40, sigma_min=0.02, sigma_max=60.0)
TEN = po.schedules.Table(steps=10)


def classes(d: int = 2) -> list[po.GaussianMixture]:
    """Three laws that overlap, of two components each."""
    return [mixture(d, k=2, seed=10 * i) for i in range(3)]


def bayes(d: int = 2) -> BayesClassifier:
    classifier = BayesClassifier(classes(d), SHARES.tolist())
    # To the last bit, whatever precision the shares are taken in.
    classifier.log_shares = SHARES.log()
    return classifier


def everything(d: int = 2) -> po.GaussianMixture:
    """All classes together, in their shares."""
    laws = classes(d)
    weights = torch.cat([s * law.weights for s, law in zip(SHARES, laws, strict=True)])
    means = torch.cat([law.means for law in laws])
    return po.GaussianMixture(weights, means, torch.cat([law.covariances for law in laws]))


def tilted(label: int = 0, weight: float = 1.0, d: int = 2) -> Tilted:
    family = po.Family(everything(d), dict(enumerate(classes(d))))
    return Tilted(po.diffusion.Counted(family), po.Label(label), weight)


def counted(target: Tilted) -> Meter:
    assert isinstance(target.prior, po.diffusion.Counted)
    return target.prior.meter


class Linear(Classifier):
    """Logits `B x / (1 + sigma^2)`, for a level or one a sample, whose gradients are known."""

    noisy = True

    def __init__(self, shape: tuple[int, ...], labels: int = 3, seed: int = 0) -> None:
        self.space, self.labels = Space(shape, F64), labels
        self.matrix = normal(labels, self.space.size, seed=seed)
        self.calls = 0

    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        self.calls += 1
        level = torch.as_tensor(sigma, dtype=F64)[..., None]
        return self.space.flatten(x) @ self.matrix.mT / (1 + level**2)

    def slope(self, x: Tensor, sigma: float, label: int, t1: float, t2: float) -> Tensor:
        share = (t2 * self(x, sigma)).softmax(-1)
        rows = t1 * self.matrix[label] - t2 * share @ self.matrix
        return self.space.unflatten(rows / (1 + sigma**2))


def clean(d: int = 2) -> CleanClassifier:
    return CleanClassifier(lambda x: bayes(d)(x), Space((d,), F64), 3)
