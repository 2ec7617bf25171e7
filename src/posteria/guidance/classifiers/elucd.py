"""EluCD: guidance by a classifier of clean signals, off the shelf."""

import copy
import math
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...core.errors import require
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule
from .classifier import Classifier
from .classifier_guidance import Base, guided_member, label_known_to


@dataclass(frozen=True)
class EluCD(TiltedRule):
    """EluCD (Ma et al., 2024, arXiv:2310.11311): a clean classifier is evaluated on the estimate.

    The gradient of `t1 f_c - logsumexp(t2 f)`, with f the logits, is taken at the denoised signal and
    *used* as the gradient at the noisy one. In the units of the paper, `x / sqrt(1 + sigma^2)`, the
    mean of a step moves by `weight (V + gamma max(V) sin(pi t / T)) gradient`, where V is the variance
    of the ancestral step and its maximum runs over the steps so far. The first term is `sigma^2` here,
    which is the same for short steps and suits every solver. With a *noisy* classifier,
    `t1 = t2 = 1` and `gamma = 0` it is classifier guidance.

    One evaluation a step and one gradient of the classifier. It is biased for every law of the data
    (docs/guidance.md). The settings are the paper's for DDPM; `softened` makes the smooth network that
    it recommends.

    Args:
        weight: The power of the condition, by default the target's; on the conditional member the
            gradient is added `weight - 1` times.
        classifier: Of clean or noisy signals. A `repr` leaves it out; a rule that is rebuilt from one has none.
        t1: Inverse temperature of the class's own logit.
        t2: Inverse temperature of all logits together; 0 follows the own logit alone.
        gamma: Size of the sine.
        base: The member that is guided.
    """

    classifier: Classifier | None = field(default=None, repr=False)
    t1: float = 1.0
    t2: float = 0.5
    gamma: float = 0.3
    base: Base = "unconditional"
    needs: ClassVar[str] = "a classifier"
    limits: ClassVar = {"t1": "[0, inf)", "t2": "[0, inf)", "gamma": "[0, inf)"}

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The settings of the official code for ImageNet at 128 pixels; the classifier is not included."""
        return {"imagenet128": cls(weight=2.0, base="conditional")}

    @override
    def check_tilted(self, target: Tilted) -> None:
        label_known_to(self.classifier, target, self, self.base)

    @override
    def init(self, target: Tilted, x: Tensor) -> Memory:
        return {"peak": x.new_zeros(len(x))}

    def direction(self, logits: Tensor, label: int) -> Tensor:
        """`t1 f_c - logsumexp(t2 f)`, `[*batch, labels]` to `[*batch]`."""
        return self.t1 * logits[..., label] - (self.t2 * logits).logsumexp(-1)

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        classifier, label = label_known_to(self.classifier, target, self, self.base)
        sigma = info.sigma
        x0, weight = guided_member(target, x, sigma, self.base, self.strength(target))
        # What an ancestral step puts on the estimate, and its variance, in the paper's units.
        share = 1 - (info.sigma_next / sigma) ** 2
        variance = share * info.sigma_next**2 / (1 + info.sigma_next**2)
        share = share / math.hypot(1, info.sigma_next)
        memory = {"peak": memory["peak"].clamp(min=variance)}
        if weight == 0:
            return Estimate(x0, memory)
        # The gradient at the iterate in the paper's units is larger by that unit.
        where, level, unit = (x, sigma, math.hypot(1, sigma)) if classifier.noisy else (x0, 0.0, 1)
        slope = linalg.score(
            lambda z: self.direction(classifier(z, level), label), where, classifier
        )
        sine = math.sin(math.pi * (1 - info.index / info.steps))
        size = sigma**2 / math.hypot(1, sigma) + self.gamma * sine / share * memory["peak"]
        step = target.space.per_sample(weight * unit * size)
        return Estimate(x0 + (step * slope).to(x.dtype), memory)


def softened(network: torch.nn.Module, beta: float = 3.0) -> torch.nn.Module:
    """A copy of a network in which every `ReLU` module is a `Softplus(beta)`, whose gradient is smooth.

    Args:
        network: A classifier.
        beta: Sharpness, above 0; the paper has 3 for DDPM and 5 for EDM.

    Raises:
        InputError: If there is no such module, as where the network calls a function instead, or no such sharpness.
    """
    require(0 < beta < math.inf, f"beta is a sharpness above 0; {beta} is not.")
    network = copy.deepcopy(network)
    if isinstance(network, torch.nn.ReLU):
        return torch.nn.Softplus(beta)
    found = 0
    for module in list(network.modules()):
        # Not `named_children`, which skips the second place of a module that is used twice.
        for name, child in list(module._modules.items()):
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.Softplus(beta))
                found += 1
    require(found > 0, "There is no ReLU module in this network; nothing to soften.")
    return network
