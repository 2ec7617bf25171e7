"""The models beside the prior that a run uses: a weak one, a tuned one, a classifier."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from ...core.errors import expect, require, unknown
from ...core.meter import Meter
from ...core.space import Space
from ...diffusion.denoiser import Counted, Denoiser, Label
from ...guidance.classifiers.classifier import CleanClassifier
from ...priors import load_prior, prior_sha256
from ...priors.classifier import CLASSIFIERS, load_classifier
from ...target import Tilted

T = TypeVar("T")
# The fields of rules and samplers that a model serves.
MODELS = {"weak": {"weak"}, "tuned": {"tuned"}, "classifier": {"classifier", "evaluators"}}


def wants(owner: Any, model: str) -> bool:
    """Whether a sampler, or a part of it, has a field that a model serves."""
    fields = {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner)}
    parts = [value for value in fields.values() if dataclasses.is_dataclass(value)]
    return bool(MODELS[model] & fields.keys()) or any(wants(part, model) for part in parts)


def sha256_of(model: str, name: str) -> str:
    """The SHA-256 of a model's weights."""
    if model != "classifier":
        return prior_sha256(name)
    if name not in CLASSIFIERS:
        raise unknown("classifier", name, CLASSIFIERS)
    return str(CLASSIFIERS[name].sha256)


def load_judge(name: str, space: Space) -> CleanClassifier:
    """A shipped classifier that sees the pictures of a space.

    Raises:
        InputError: If there is none of that name, or it sees pictures of another shape.
    """
    judge = load_classifier(name, device=space.device)
    require(
        judge.space.shape == space.shape,
        f"The classifier {name!r} sees pictures of shape {judge.space.shape}; the prior draws {space.shape}.",
    )
    return judge


class Models:
    """Models, loaded, that count their evaluations.

    Args:
        names: By what they are for: names of priors, or of a shipped classifier.
        target: The tilted law, or the prior itself.
        size: Height and width, or the length of a signal, if not those that the priors were trained at.

    Attributes:
        meter: Their evaluations so far, by all samples together.

    Raises:
        InputError: If there is none of that name.
    """

    def __init__(
        self, names: Mapping[str, str], target: Denoiser, size: tuple[int, ...] | None = None
    ) -> None:
        self.target = target
        self.sha256 = {model: sha256_of(model, name) for model, name in names.items()}
        self.meter = Meter()
        device = target.space.device
        self._priors = {
            model: Counted(load_prior(name, device=device, size=size), self.meter)
            for model, name in names.items()
            if model != "classifier"
        }
        judge = names.get("classifier")
        self.classifier = None if judge is None else self._counted(load_judge(judge, target.space))

    def _counted(self, classifier: CleanClassifier) -> CleanClassifier:
        def logits(x: Tensor) -> Tensor:
            self.meter.others += len(x)
            return classifier.logits(x)

        return CleanClassifier(logits, classifier.space, classifier.labels)

    def _evaluator(self, classifier: CleanClassifier) -> Callable[[Tensor, float], Tensor]:
        """The log-probability of the label at a noisy signal, by what the prior without the label makes of it."""
        target = expect(self.target, Tilted, by="An evaluator")
        label = expect(target.condition, Label, by="An evaluator").label

        def score(x: Tensor, sigma: float) -> Tensor:
            if sigma > 0:
                x = Counted(target.unconditional, self.meter)(x, sigma)
            return classifier.log_prob(label, x)

        return score

    def into(self, owner: T) -> T:
        """A sampler, or a part of one, with the models that it has a field for."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(owner):  # type: ignore[arg-type]
            value = getattr(owner, field.name)
            if field.name in self._priors:
                changes[field.name] = self._priors[field.name]
            elif field.name == "classifier" and self.classifier is not None:
                changes[field.name] = self.classifier
            elif field.name == "evaluators" and self.classifier is not None:
                changes[field.name] = (self._evaluator(self.classifier),)
            elif dataclasses.is_dataclass(value) and any(wants(value, m) for m in self.sha256):
                changes[field.name] = self.into(value)
        return dataclasses.replace(owner, **changes) if changes else owner  # type: ignore[type-var]
