"""The class-conditional prior of digits."""

from functools import partial
from typing import Any

from benchmark_utils.tilts import Tilt, conditional, load
from benchopt import BaseDataset
from benchopt.config import get_data_path
from torch import Tensor
from typing_extensions import override

import posteria as po
from lib.digits import absent, load_classifier, mnist
from posteria.core.meter import Meter
from posteria.guidance.classifiers.classifier import CleanClassifier

LABELS = 10


def evaluator(classifier: CleanClassifier, prior: po.Network, label: int) -> Any:
    """The log-probability of a label at a noisy picture, by what the prior without it makes of that."""

    def score(x: Tensor, sigma: float) -> Tensor:
        clean = prior.unconditional()(x, sigma) if sigma > 0 else x
        return classifier.log_prob(label, clean)

    return score


class Dataset(BaseDataset):
    """A label, or all ten, to a power.

    Samples are compared with as many draws of the conditional law (`reference=model`), or with test
    pictures from `mnist_28x28.npz` (data path `mnist`).
    """

    name = "digits"
    requirements = ["pip::posteria"]
    parameters = {
        "label": ["all"],
        "weight": [1.5, 2.0, 3.0, 5.0],
        "samples": [1000],
        "reference": ["model"],
        "device": ["cpu"],
    }
    parameter_template = "label={label},weight={weight},reference={reference}"
    test_parameters = {"label": [3], "weight": [2.0], "samples": [8]}

    @override
    def get_data(self) -> dict[str, Any]:
        labels = tuple(range(LABELS)) if self.label == "all" else (int(self.label),)
        each = self.samples // len(labels)
        prior, classifier = (
            load("digits", device=self.device),
            load_classifier("digits", device=self.device),
        )
        models: dict[str, object] = {"classifier": classifier}
        if len(labels) == 1:
            models["evaluators"] = (evaluator(classifier, prior, labels[0]),)
        if self.reference == "model":
            reference = partial(conditional, "digits", labels, each, self.device)
        else:
            path = get_data_path("mnist")
            if reason := absent(path):
                return {"tilt": None, "reason": reason}
            reference = partial(mnist, path, each, labels)
        tilt = Tilt(
            targets=tuple(po.Tilted(prior, po.Label(label), self.weight) for label in labels),
            each=each,
            seed=self.get_seed(use_dataset=True, use_repetition=True),
            reference=reference,
            models=models,
            meter=Meter(),
            batch=64,
        )
        return {"tilt": tilt}
