"""Guidance by the gradient of a classifier of noisy signals, and the law that a classifier tilts towards."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...core.errors import CapabilityError, expect
from ...core.linalg import LinearMap
from ...diffusion.denoiser import Denoiser, Label
from ...likelihood import FunctionLikelihood
from ...target import Posterior, Tilted
from ..base import GuidedDenoiser, Pointwise
from .classifier import Classifier

Base = Literal["unconditional", "conditional"]


@dataclass(frozen=True)
class ClassifierGuidance(Pointwise):
    """Classifier guidance (Dhariwal & Nichol, 2021, arXiv:2105.05233), algorithm 2.

    `D + weight sigma^2 grad_x log p(c | x)`, where p(c | x) is the probability of the label of a
    *noisy* signal; with an exact classifier it is `CFG`, bias included. The weight is the power of the
    condition: on the conditional member the gradient is added `weight - 1` times. One evaluation a
    step and one gradient of the classifier; no derivative of the denoiser. A classifier of clean
    signals is refused: `EluCD` evaluates it at the estimate, and `TFG` differentiates through it.

    Args:
        weight: The power of the condition; by default the target's.
        classifier: Of noisy signals, such as a `BayesClassifier` or `Experts`; its classes are numbered
            as the labels. A `repr` leaves it out; a rule that is rebuilt from one has none.
        base: The member that is guided.
    """

    classifier: Classifier | None = field(default=None, repr=False)
    base: Base = "unconditional"
    needs: ClassVar[str] = "a classifier of noisy signals"

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The scales of the official code for ImageNet at five sizes; the classifiers are not included."""
        scales = {"imagenet64": 1.0, "imagenet128": 0.5, "imagenet256": 1.0, "imagenet512": 4.0}
        given = {name: cls(weight=1 + s, base="conditional") for name, s in scales.items()}
        return {**given, "imagenet256_unconditional": cls(weight=10.0)}

    @override
    def check_tilted(self, target: Tilted) -> None:
        label_known_to(self.classifier, target, self, self.base)
        if self.classifier is not None and not self.classifier.noisy:
            raise CapabilityError(
                "ClassifierGuidance needs a classifier of noisy signals and this one knows clean ones "
                "only; EluCD and TFG guide by those."
            )

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        classifier, label = label_known_to(self.classifier, target, self, self.base)
        x0, weight = guided_member(target, x, sigma, self.base, self.strength(target))
        if weight == 0:
            return x0
        slope = linalg.score(lambda z: classifier.log_prob(label, z, sigma), x, classifier)
        level = target.space.per_sample(sigma)
        return x0 + (weight * level**2 * slope).to(x.dtype)

    @override
    def denoiser(self, target: Tilted) -> Denoiser:
        # Its `vjp` is refused: it would need second derivatives of the classifier.
        self.check(target)
        return FirstOrder(self, target)


class FirstOrder(GuidedDenoiser):
    """A guided denoiser that holds a gradient, so that its own is not at hand."""

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """Not possible; a derivative that leaves out the classifier would be wrong without a word."""
        raise CapabilityError(
            f"The denoiser of {type(self.rule).__name__} has no vjp, which needs second derivatives of "
            "its classifier; use a sampler that needs none, such as DiffPIR, or another rule."
        )


def label_known_to(
    classifier: Classifier | None, target: Tilted, by: object, base: Base = "unconditional"
) -> tuple[Classifier, int]:
    """The classifier and the label of `target`.

    Raises:
        CapabilityError: If the classifier or the member that is guided is missing, or the condition is no label.
        ShapeError: If the classifier is one of other signals.
        InputError: If it does not know the label.
    """
    who = by if isinstance(by, str) else type(by).__name__
    if classifier is None:
        raise CapabilityError(f"{who} needs a classifier: {who}(classifier=...).")
    expect(classifier, Classifier, by=by)
    _ = target.unconditional if base == "unconditional" else target.conditional
    label = expect(target.condition, Label, by=by).label
    target.space.expect(classifier.space, "The classifier sees")
    return classifier, classifier.known(label)


def guided_member(
    target: Tilted, x: Tensor, sigma: float | Tensor, base: Base, weight: float
) -> tuple[Tensor, float]:
    """The estimate of the member that is guided, and how many times the gradient is added to it."""
    if base == "conditional":
        return target.conditional(x, sigma), weight - 1
    return target.unconditional(x, sigma), weight


def classified(target: Tilted, classifier: Classifier) -> Posterior:
    """A tilted law as a classifier sees it, p(x) p(c | x)^weight, for any sampler of a posterior.

    Args:
        target: The tilted law; of its members only the unconditional one is used, as the prior.
        classifier: Evaluated at clean signals.

    Raises:
        CapabilityError: If it is no tilted law, there is no unconditional member or the condition is no label.
        ShapeError: If the classifier is one of other signals.
        InputError: If it does not know the label.
    """
    _, label = label_known_to(classifier, expect(target, Tilted, by="classified"), "classified")

    def log_prob(y: Tensor, x: Tensor) -> Tensor:
        return target.weight * classifier.log_prob(label, x)

    return Posterior(target.unconditional, FunctionLikelihood(log_prob), torch.tensor(label))
