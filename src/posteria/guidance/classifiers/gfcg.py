"""Gradient-free classifier guidance: away from the class that a classifier confuses with the wanted one."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core import linalg
from ...core.errors import expect
from ...diffusion.denoiser import Conditional, Label
from ...target import Tilted
from ..base import Pointwise
from .classifier import Classifier
from .classifier_guidance import label_known_to


@dataclass(frozen=True)
class GFCG(Pointwise):
    """Gradient-free classifier guidance (Shenoy et al., 2026, arXiv:2411.15393), in our reconstruction.

    A classifier is run forward on the conditional estimate D_c. Of the other classes the likeliest
    is the sample's reference r; the less probable the class y is, the stronger the push
    away from r: `D_c + (weight - 1) (1 - p_y)^power (D_c - D_r)`. The idea is the paper's; the formula
    and every constant are reconstruction. Two evaluations and one of the classifier; three with `cfg`.

    Args:
        weight: 1 and the strength of the push at a sample that the classifier takes for another
            class, at least 1; by default the target's.
        classifier: Its labels are those of the family. A `repr` leaves it out; a rule that is rebuilt from one has
            none.
        power: How fast the push fades with confidence.
        cfg: Weight of classifier-free guidance that is added, with `(cfg - 1) (D_c - D_u)`; 1 is none.
        weak: A weaker family, in place of the target's, for the reference class (autoguidance).
    """

    classifier: Classifier | None = field(default=None, repr=False)
    power: float = 1.0
    cfg: float = 1.0
    weak: Conditional | None = None
    needs: ClassVar[str] = "a classifier of the family's labels and a weight of at least 1"
    limits: ClassVar = {"power": "[0, inf)", "cfg": "[0, inf)"}

    least: ClassVar[float] = 1.0

    @override
    def check_tilted(self, target: Tilted) -> None:
        classifier, _ = label_known_to(self.classifier, target, self, "conditional")
        if self.weak is not None:
            weak = expect(self.weak, Conditional, by=self)
            target.space.expect(weak.space, "The weak family draws")
        for other in range(classifier.labels):
            _ = target.prior.given(Label(other))
            if self.weak is not None:
                _ = self.weak.given(Label(other))
        if self.cfg != 1:
            _ = target.unconditional

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        space, weight = target.space, self.strength(target)
        x0 = target.conditional(x, sigma)
        out = x0
        if weight > 1:
            reference, doubt = self._confusion(target, x0)
            push = (weight - 1) * doubt**self.power
            out = out + space.per_sample(push) * (x0 - self._members(target, x, sigma, reference))
        if self.cfg != 1:
            out = out + (self.cfg - 1) * (x0 - target.unconditional(x, sigma))
        return out

    def _confusion(self, target: Tilted, x0: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest other class and the probability of all others, `[*batch]` each."""
        classifier, label = label_known_to(self.classifier, target, self, "conditional")
        share = linalg.connected(classifier(x0), x0, classifier).softmax(-1)
        # A sum of the others, because 1 - p_y rounds to 0 where the classifier is nearly sure.
        others = share.index_fill(-1, torch.tensor(label, device=x0.device), 0.0)
        return others.argmax(-1), others.sum(-1).to(x0.dtype)

    def _members(self, target: Tilted, x: Tensor, sigma: float | Tensor, label: Tensor) -> Tensor:
        """Each sample's estimate under its own label, `[*batch, *event]`."""
        family = target.prior if self.weak is None else self.weak
        space, labels = target.space, label.flatten()
        flat = x.reshape(-1, *space.shape)
        levels = sigma.expand(label.shape).flatten() if isinstance(sigma, Tensor) else sigma
        out = torch.zeros_like(flat)
        for one in sorted(set(labels.tolist())):
            rows = (labels == one).nonzero()[:, 0]
            level = levels.index_select(0, rows) if isinstance(levels, Tensor) else levels
            x0 = family.given(Label(one))(flat.index_select(0, rows), level)
            out = out.index_copy(0, rows, x0)
        return out.reshape(x.shape)
