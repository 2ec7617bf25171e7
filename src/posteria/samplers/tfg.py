"""TFG with its recurrence, and the methods that are special cases of it."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from typing_extensions import override

from ..core.errors import require
from ..core.rng import Rng
from ..diffusion.schedule import Schedule, Table
from ..guidance import likelihood as rules
from ..guidance.base import LikelihoodRule
from ..guidance.likelihood.strength import Bayes, Even, Faded, Fixed, Increasing, Strength
from ..target import Posterior
from .guided import GuidedState
from .ruled import RuledSampler


@dataclass(frozen=True, kw_only=True)
class TFG(RuledSampler):
    """Training-free guidance (Ye et al., 2024, arXiv:2409.15761), algorithm 1, by the rule `guidance.TFG`.

    A step (1) moves the iterate by the gradient of log f(D(x)) in x, where log f(x_0) = log p(y | x_0)
    smoothed by noise, (2) climbs log f from D(x) by gradients in x_0 and (3) may go back to its level
    by fresh noise and be made again. DPS, FreeDoM, LGD-MC, MPGD and universal guidance choose some of
    the three and their strengths: `TFG.dps()` and so on are those. The defaults are LGD's with 4
    repeats and a bound on moves; published strengths suit a loss of order 1 (docs/samplers.md).
    Strengths of 0 draw the prior, to the bit.

    A step costs `repeats` times what the rule costs. The target is a `Posterior`:
    `classified(tilted, classifier)` is that of a class, and a user's own log f makes a
    `FunctionLikelihood`.

    Args:
        schedule: The noise levels.
        rho: Strength of the gradient in x, through the denoiser.
        mu: Strength of the gradient in x_0, not through it.
        iterations: Gradients in x_0 a step.
        spread: Standard deviation of the noise on x_0 by which f is smoothed; see the rule.
        even: Whether the spread is the same at all levels.
        points: Draws of that noise, made once a step.
        repeats: How often a step is made.
        between: Lowest and highest level at which it is made more than once; None for all.
        reach: Farthest that either gradient moves the estimate; None for any distance (the papers).
        renoise: Whether the noise of the next iterate is that of the estimate after (2).
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=100))
    order: int = 1
    rho: Strength = field(default_factory=lambda: Bayes(1.0))
    mu: Strength = field(default_factory=lambda: Even(0.0))
    iterations: int = 1
    spread: float = 1.0
    even: bool = False
    points: int = 16
    repeats: int = 4
    between: tuple[float, float] | None = None
    reach: float | None = 4.0
    renoise: bool = False

    rule_type: ClassVar[type[LikelihoodRule]] = rules.TFG
    needs: ClassVar[str] = rules.TFG.needs
    limits: ClassVar = {"repeats": "[1, inf)"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.order == 1, f"TFG is made for steps of order 1; order={self.order}.")
        low, high = self.between or (0.0, 0.0)
        require(0 <= low <= high, f"between is a range of noise levels; {self.between} is not.")

    @override
    def evaluations(self, target: Posterior) -> int:
        low, high = self.between or (0.0, math.inf)
        repeated = sum(low <= sigma <= high for sigma in self.levels[:-1])
        times = self.schedule.steps + repeated * (self.repeats - 1)
        return times * self.rule.evaluations(target)

    @override
    def step(
        self, target: Any, state: GuidedState, sigma: float, sigma_next: float, rng: Rng
    ) -> GuidedState:
        low, high = self.between or (0.0, math.inf)
        moved = state
        for k in range(self.repeats if low <= sigma <= high else 1):
            if k:
                noise = math.sqrt(sigma**2 - sigma_next**2) * rng.normal_like(moved.x)
                moved = replace(moved, x=moved.x + noise, count=state.count)
            moved = super().step(target, moved, sigma, sigma_next, rng)
        return moved

    @classmethod
    def plain(cls, rho: Strength, mu: Strength) -> "TFG":
        """Two strengths and no more: no smoothing, no repeats, any reach. `replace` adds what a method has."""
        return cls(rho=rho, mu=mu, spread=0.0, points=1, repeats=1, reach=None)

    @classmethod
    def dps(cls, zeta: float = 1.0) -> "TFG":
        """DPS (Chung et al., 2023, arXiv:2209.14687): the gradient of log f at the estimate, with a fixed step.

        The paper's log f is minus the norm of the residual, and its last step a plain denoising.
        """
        return replace(cls.plain(Fixed(zeta), Even(0.0)), schedule=Table(steps=999))

    @classmethod
    def freedom(
        cls, rho: float = 0.2, repeats: int = 1, between: tuple[float, float] | None = None
    ) -> "TFG":
        """FreeDoM (Yu et al., 2023, arXiv:2303.09833): as DPS, with steps repeated at middle levels.

        With the step of its code for faces (0.2 for parsing maps, 20 for sketches, 100 for
        identities), DDIM at `eta=0.5` and 100 steps.
        """
        plain = cls.plain(Faded(rho), Even(0.0))
        return replace(plain, repeats=repeats, between=between, eta=0.5)

    @classmethod
    def lgd(cls, points: int = 10) -> "TFG":
        """LGD-MC (Song et al., 2023, PMLR song23k) with 10 points: Bayes' rule for data of unit variance."""
        return replace(cls.plain(Bayes(1.0), Even(0.0)), spread=1.0, points=points)

    @classmethod
    def mpgd(cls, mu: float = 1.0) -> "TFG":
        """MPGD (He et al., 2024, arXiv:2311.16424) without an autoencoder: one gradient in x_0, no vjp."""
        return cls.plain(Even(0.0), Fixed(mu))

    @classmethod
    def universal(
        cls, size: float = 2.0, mu: float = 0.01, iterations: int = 1, repeats: int = 10
    ) -> "TFG":
        """Universal guidance (Bansal et al., 2024, arXiv:2302.07121): both gradients, and repeats.

        Size and repeats are those of its ImageNet classifier with 500 DDIM steps; its backward step is by Adam
        in the paper, and by plain gradients of size `mu` here.
        """
        return replace(
            cls.plain(Bayes(size), Fixed(mu)),
            schedule=Table(steps=500),
            iterations=iterations,
            repeats=repeats,
            renoise=True,
            eta=0.0,
        )

    @classmethod
    def presets(cls) -> dict[str, "TFG"]:
        """Settings of the paper for a log f of order 1: as many evaluations and vjps as steps, 50 or 100."""
        cifar, imagenet, blur = (
            replace(cls.plain(Increasing(rho), Increasing(mu)), spread=spread, iterations=4)
            for rho, mu, spread in ((1.0, 0.25, 0.001), (2.0, 0.5, 0.1), (1.0, 8.0, 0.01))
        )
        return {
            "cifar_label": replace(cifar, schedule=Table(steps=50)),
            "imagenet_label": imagenet,
            "gaussian_deblur": blur,
        }
