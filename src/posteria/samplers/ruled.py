"""Samplers that are short for a rule of a posterior with the solver of its paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, require
from ..core.rng import Rng
from ..core.state import State
from ..diffusion.schedule import Karras, LogLinear, Schedule, Table
from ..diffusion.solver import DDIM, DPMpp2M
from ..guidance import likelihood as rules
from ..guidance.base import LikelihoodRule
from ..target import Posterior
from .guided import Guided, GuidedState
from .posterior import PosteriorSampler


@dataclass(frozen=True, kw_only=True)
class RuledSampler(PosteriorSampler[GuidedState]):
    """A rule with a solver under one name; `Guided(rule=...)` runs the same rule with any other solver.

    Args:
        schedule: The noise levels.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
        order: 2 is `DPMpp2M(eta)`, which extrapolates the estimate to the middle of a step; 1 is
            `DDIM(eta)` (the papers).

    Attributes:
        rule_type: The rule, whose settings a sampler has as its own.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200))
    eta: float = 1.0
    order: int = 2

    rule_type: ClassVar[type[LikelihoodRule]]
    state_type: ClassVar[type[State]] = GuidedState
    limits: ClassVar = {"eta": "[0, 1]", "order": "[1, 2]"}

    def __post_init__(self) -> None:
        _ = self.rule

    @cached_property
    def rule(self) -> LikelihoodRule:
        """The rule, with this sampler's settings."""
        return self.rule_type(**{f.name: getattr(self, f.name) for f in fields(self.rule_type)})

    def as_rule(self) -> LikelihoodRule:
        """The rule alone, for `Guided`.

        Raises:
            InputError: If a setting of the solver or the schedule would be lost with it.
        """
        names = {f.name for f in fields(self.rule_type)}
        plain = type(self)(**{name: getattr(self, name) for name in names})
        if plain != self:
            raise InputError(
                f"{type(self).__name__} is a rule here; schedule, eta and order are settings of Guided "
                "and of its solver: Guided(rule=..., schedule=..., solver=...)."
            )
        return self.rule

    @cached_property
    def guided(self) -> Guided:
        """The same sampler in parts: the rule, the schedule, and the solver that `eta` and `order` stand for."""
        solver = DPMpp2M(self.eta) if self.order == 2 else DDIM(self.eta)
        return Guided(rule=self.rule, solver=solver, schedule=self.schedule)

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        self.rule.check(posterior)
        return posterior

    @override
    def evaluations(self, target: Posterior) -> int:
        return self.guided.evaluations(target)

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        return self.guided.arrange(target, seeds)

    @override
    def carried(self, target: Any, x: Tensor) -> dict[str, Any]:
        return self.guided.carried(target, x)

    @override
    def step(
        self, target: Any, state: GuidedState, sigma: float, sigma_next: float, rng: Rng
    ) -> GuidedState:
        return self.guided.step(target, state, sigma, sigma_next, rng)


@dataclass(frozen=True, kw_only=True)
class MMPS(RuledSampler):
    """Moment matching posterior sampling (Rozet et al., 2024, arXiv:2405.13712), by the rule `guidance.MMPS`.

    One evaluation and `iterations` vjps a step, but no more vjps than `y` has entries.

    Args:
        iterations: Products with the covariance a solve.
        tolerance: Relative residual at which a sample's solve ends.
        solver: `cg`, the paper's conjugate gradients, or `gmres`, for a Jacobian that is not symmetric.
    """

    iterations: int = 5
    tolerance: float = 1e-6
    solver: Literal["cg", "gmres"] = "cg"

    rule_type: ClassVar[type[LikelihoodRule]] = rules.MMPS
    floored: ClassVar[bool] = rules.MMPS.floored
    needs: ClassVar[str] = rules.MMPS.needs

    @override
    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The default of the official code (arXiv:2405.13712): 64 evaluations and 64 vjps."""
        schedule = LogLinear(steps=64, sigma_min=1e-3, sigma_max=100.0)
        return {"paper": cls(schedule=schedule, iterations=1, tolerance=1e-3, order=1)}


@dataclass(frozen=True, kw_only=True)
class PiGDM(RuledSampler):
    """Pseudoinverse-guided diffusion (Song et al., 2023, ICLR, OpenReview 9_gsMA8MRKQ), by the rule `guidance.PiGDM`.

    One evaluation and one vjp a step; 23 evaluations of 32 draws measure a prior that is not known yet.

    Args:
        prior_std: Standard deviation of an entry of the signal; None measures it once a prior. The paper has 1.
        strength: None guides the estimate. A number (1 is the paper's update), which goes with `order=1`,
            leaves it and pushes the iterate by so much.
    """

    prior_std: float | None = None
    strength: float | None = None

    rule_type: ClassVar[type[LikelihoodRule]] = rules.PiGDM
    floored: ClassVar[bool] = rules.PiGDM.floored
    needs: ClassVar[str] = rules.PiGDM.needs

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.strength is None or self.order == 1,
            f"strength is None, or goes with order=1; got strength={self.strength}.",
        )

    @override
    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The paper's update as MGPS and MGDM (arXiv:2410.09945, arXiv:2502.03332) ran it.

        Made for images in [-1, 1]: 999 evaluations and 999 vjps.
        """
        paper = cls(schedule=Table(steps=999), prior_std=1.0, order=1, strength=1.0)
        return {"paper": paper}


@dataclass(frozen=True, kw_only=True)
class TMPD(RuledSampler):
    """Tweedie moment projected diffusion (Boys et al., 2023, arXiv:2310.06721), by the rule `guidance.TMPD`.

    One evaluation and two vjps a step.
    """

    rule_type: ClassVar[type[LikelihoodRule]] = rules.TMPD
    floored: ClassVar[bool] = rules.TMPD.floored
    needs: ClassVar[str] = rules.TMPD.needs

    @override
    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The official code's variance preserving sampler of images: 999 evaluations and 1998 vjps."""
        return {"paper": cls(schedule=Table(steps=999), order=1)}


@dataclass(frozen=True, kw_only=True)
class LGD(RuledSampler):
    """Loss-guided diffusion by Monte Carlo, LGD-MC (Song et al., 2023, PMLR song23k), by the rule `guidance.LGD`.

    One evaluation and one vjp a step, and `points` evaluations of the likelihood; 23 evaluations of 32
    draws measure a prior that is not known yet.

    Args:
        points: Draws of the signal a step. The paper has 10 to 100.
        prior_std: Standard deviation of an entry of the signal; None measures it once a prior. The paper has 1.
        reach: Farthest that the estimate is moved, in units of the spread given x; None for any
            distance (the paper).
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=500))
    points: int = 32
    prior_std: float | None = None
    reach: float | None = 4.0

    rule_type: ClassVar[type[LikelihoodRule]] = rules.LGD
    needs: ClassVar[str] = rules.LGD.needs

    @override
    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The fewest and the most draws of the paper, for data of unit scale: 999 evaluations and 999 vjps."""
        paper = partial(cls, schedule=Table(steps=999), prior_std=1.0, reach=None, order=1)
        return {"mc10": paper(points=10), "mc100": paper(points=100)}


@dataclass(frozen=True, kw_only=True)
class DPS(RuledSampler):
    """Diffusion posterior sampling (Chung et al., 2023, arXiv:2209.14687), algorithm 1, by the rule `guidance.DPS`.

    One evaluation and one vjp a step; the last step is a plain denoising.

    Args:
        schedule: The noise levels; the papers' grid of 1000 by default.
        zeta: Step size of the data term in the units of the paper, which has 0.3 to 1.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=999))
    order: int = 1
    zeta: float = 0.2

    rule_type: ClassVar[type[LikelihoodRule]] = rules.DPS
    needs: ClassVar[str] = rules.DPS.needs
    fewest: ClassVar[int] = rules.DPS.fewest

    @override
    @classmethod
    def presets(cls) -> dict[str, Self]:
        """Settings with which MGPS and MGDM compared DPS, 999 evaluations.

        Their code differentiates the squared norm and divides by the norm, so that its `gamma` is
        `zeta / 2`.
        """
        return {
            "gmm": cls(zeta=0.2),
            "inpainting": cls(zeta=2.0),
            "super_resolution": cls(zeta=2.0),
            "blur": cls(zeta=0.6),
            "phase_retrieval": cls(zeta=0.8),
            "nonlinear_blur": cls(zeta=0.2),
            "high_dynamic_range": cls(zeta=0.14),
            "jpeg2": cls(zeta=0.4),
        }
