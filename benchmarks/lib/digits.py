"""Quality and diversity of digits."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

import posteria as po
from posteria.metrics.diversity import (
    classifier_agreement,
    density_coverage,
    frechet_distance,
    precision_recall,
)
from posteria.metrics.features import Penultimate


@lru_cache(maxsize=1)
def load_classifier(name: str, device: str = "cpu") -> po.guidance.CleanClassifier:
    """A classifier, loaded once in a process."""
    return po.priors.load_classifier(name, device=device)


def scores(x: Tensor, reference: Tensor, labels: Sequence[int], k: int = 3) -> dict[str, float]:
    """Digits, as many of each of `labels` in turn, against held-out pictures, in features of the shipped classifier."""
    classifier = load_classifier("digits")
    features = Penultimate(classifier)
    ours, theirs = features(x), features(reference)
    parts = zip(torch.split(x, len(x) // len(labels)), labels, strict=True)
    agreed = [classifier_agreement(classifier, part, label) for part, label in parts]
    precision, recall = precision_recall(ours, theirs, k=k)
    density, coverage = density_coverage(ours, theirs)
    return {
        "agreement": sum(agreed) / len(agreed),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "frechet": frechet_distance(ours, theirs),
    }
