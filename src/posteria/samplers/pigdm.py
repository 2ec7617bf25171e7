"""PiGDM: pseudoinverse-guided diffusion."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ..core.errors import require
from ..core.rng import Rng
from ..diffusion.kernel import reverse_step
from ..diffusion.scale import ScaledState, check_prior_std, measured_std, spread_given
from ..diffusion.schedule import Karras, Schedule, Table, levels_of
from ..diffusion.solver import State
from ..linear_gaussian import innovation, linear
from ..target import Posterior
from .posterior import PosteriorSampler
from .reverse import advance, check_reverse


@dataclass(frozen=True, kw_only=True)
class PiGDM(PosteriorSampler[ScaledState]):
    """Pseudoinverse-guided diffusion (Song et al., 2023, ICLR, OpenReview 9_gsMA8MRKQ), algorithm 1.

    Given x, the signal is taken for a Gaussian around `D(x)` with the variance `r^2` of a white
    Gaussian prior. Its mean given `y` as well takes the place of `D(x)` in the reverse process,
    which is exact for white Gaussian priors. The paper's own update is `strength=1`.

    One evaluation and one vjp a step; 23 evaluations, shared by all samples, measure the prior.

    Args:
        schedule: The noise levels.
        prior_std: Standard deviation of an entry of the signal; None measures it. The paper has 1.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
        order: 2 extrapolates the estimate to the middle of a step, 1 does not (the paper).
        strength: None guides the estimate. A number adds, after an unguided step of order 1, so
            many times `r^2` times the guidance, however long the step was.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200))
    prior_std: float | None = None
    eta: float = 1.0
    order: int = 2
    strength: float | None = None

    state_type: ClassVar[type[State]] = ScaledState
    needs: ClassVar[str] = "linear operator, Gaussian noise"

    def __post_init__(self) -> None:
        check_prior_std(self.prior_std)
        check_reverse(self.eta, self.order)
        require(
            self.strength is None or (0 <= self.strength < math.inf and self.order == 1),
            f"strength is None, or at least 0 and goes with order=1; got strength={self.strength}.",
        )

    @property
    def solves(self) -> bool:
        """See `PosteriorSampler`."""
        return True

    @classmethod
    def presets(cls) -> dict[str, "PiGDM"]:
        """The paper's update as MGPS and MGDM (arXiv:2410.09945, arXiv:2502.03332) ran it.

        Made for images in [-1, 1]: 999 evaluations and 999 vjps.
        """
        paper = cls(schedule=Table(steps=999), prior_std=1.0, order=1, strength=1.0)
        return {"paper": paper}

    def check_likelihood(self, posterior: Posterior) -> None:
        """See `PosteriorSampler`."""
        linear(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return 2 * self.schedule.steps

    def init(self, target: Posterior, rng: Rng) -> ScaledState:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return ScaledState(x=x, x0=x, prior_std=measured_std(target.prior, self.prior_std))

    def step(
        self, target: Posterior, state: ScaledState, sigma: float, sigma_next: float, rng: Rng
    ) -> ScaledState:
        """See `Sampler`."""
        variance = spread_given(sigma, state.prior_std) ** 2
        x0, guidance = self.guidance(target, state.x, sigma, variance)
        if self.strength is None:
            x0 = x0 + sigma**2 * guidance
            x = advance(state, x0, sigma, sigma_next, self.eta, self.order, rng)
        else:
            x = reverse_step(state.x, x0, sigma, sigma_next, self.eta, rng)
            x = x + self.strength * variance * guidance
        return replace(state, x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def guidance(
        self, target: Posterior, x: Tensor, sigma: float, variance: float
    ) -> tuple[Tensor, Tensor]:
        """`D(x)` and the gradient of the log of `N(y; A D(x), std^2 + variance A A^T)` in its mean."""
        likelihood = linear(target, by=self)
        operator = likelihood.operator
        x0, denoiser_vjp = target.prior.vjp(x, sigma)
        residual = target.y - operator(x0)
        return x0, denoiser_vjp(operator.adjoint(innovation(likelihood, residual, variance)))
