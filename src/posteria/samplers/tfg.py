"""TFG: guidance by the gradient of a function of the estimate, and the methods that are special cases of it."""

import abc
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import require
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.kernel import bridge, reverse_step
from ..diffusion.schedule import Schedule, Table, levels_of
from ..diffusion.solver import State
from ..target import Posterior
from .posterior import PosteriorSampler


class Move(NamedTuple):
    """A step of the reverse process.

    Attributes:
        levels: All levels of the schedule.
        sigma: The level it starts from.
        sigma_next: The level it goes to.
        share: Of the estimate in the next iterate.
    """

    levels: tuple[float, ...]
    sigma: float
    sigma_next: float
    share: float


@dataclass(frozen=True)
class Strength(abc.ABC):
    """How far a gradient moves things, level by level. Papers differ in the units in which it is one number.

    Args:
        size: The number; 0 leaves the gradient out, and its cost.
    """

    size: float

    def __post_init__(self) -> None:
        require(
            0 <= self.size < math.inf,
            f"The strength of a gradient is a number of at least 0; size={self.size}.",
        )

    @abc.abstractmethod
    def of_iterate(self, move: Move) -> float:
        """Factor of the gradient in x by which the next iterate moves."""

    @abc.abstractmethod
    def of_estimate(self, move: Move) -> float:
        """Factor of the gradient in x_0 by which the estimate moves."""


@dataclass(frozen=True)
class Even(Strength):
    """TFG's, the same at every level: x moves before the step, in the units of `x / sqrt(1 + sigma^2)`."""

    def part(self, sigma: float, sigma_next: float) -> float:
        """The part of a step, up to a factor."""
        return 1.0

    def of_estimate(self, move: Move) -> float:
        """See `Strength`; in the mean over all steps it is `size`."""
        total = sum(self.part(*step) for step in pairwise(move.levels))
        steps = len(move.levels) - 1
        return self.size * steps * self.part(move.sigma, move.sigma_next) / total

    def of_iterate(self, move: Move) -> float:
        """See `Strength`."""
        return (1 + move.sigma**2) * self.of_estimate(move)


@dataclass(frozen=True)
class Increasing(Even):
    """TFG's default: in proportion to the `alpha` of a DDPM step, so that low levels have more."""

    def part(self, sigma: float, sigma_next: float) -> float:
        """See `Even`."""
        return (1 + sigma_next**2) / (1 + sigma**2)


@dataclass(frozen=True)
class Decreasing(Even):
    """In proportion to the `beta` of a DDPM step: `Bayes` of another size where steps are ancestral."""

    def part(self, sigma: float, sigma_next: float) -> float:
        """See `Even`."""
        return (sigma**2 - sigma_next**2) / (1 + sigma**2)


@dataclass(frozen=True)
class Fixed(Strength):
    """That of DPS and FreeDoM: one number for all levels, with which `x / sqrt(1 + sigma^2)` moves after the step."""

    def of_iterate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size * math.sqrt((1 + move.sigma**2) * (1 + move.sigma_next**2))

    def of_estimate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size


@dataclass(frozen=True)
class Faded(Strength):
    """That of FreeDoM's code for faces: `Fixed` times `1 / sqrt(1 + sigma^2)`."""

    def of_iterate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size * math.hypot(1, move.sigma_next)

    def of_estimate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size / math.hypot(1, move.sigma)


@dataclass(frozen=True)
class Bayes(Strength):
    """That of Bayes' rule at size 1 (LGD), and of universal guidance at any: the estimate moves by `sigma^2` gradients.

    Of a gradient in x_0 the factor is the variance of x_0 given x where data are white and of unit
    variance.
    """

    def of_iterate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size * move.share * move.sigma**2

    def of_estimate(self, move: Move) -> float:
        """See `Strength`."""
        return self.size * move.sigma**2 / (1 + move.sigma**2)


@dataclass(frozen=True, kw_only=True)
class TFG(PosteriorSampler[State]):
    """Training-free guidance (Ye et al., 2024, arXiv:2409.15761), algorithm 1.

    With log f(x_0) = log p(y | x_0), smoothed by noise on x_0, a step (1) moves the iterate by
    the gradient of log f(D(x)) in x, (2) climbs log f from D(x) by gradients in x_0 and (3) may go
    back to its level by fresh noise and be made again. DPS, FreeDoM, LGD-MC, MPGD and universal
    guidance choose some of the three and their strengths: `TFG.dps()` and so on are those.

    What it draws from depends on its strengths; it is exact only as `lgd` with very many points,
    for Gaussian data of unit variance. Strengths that suit a loss of order 1 (the paper's) diverge where the
    likelihood is narrow. The defaults are LGD's with 4 repeats, which undo most of its bias, and a bound on
    moves. Strengths of 0 draw the prior, to the bit.

    A step costs `repeats` times one evaluation of the denoiser, one vjp if `rho` is above 0, and
    the gradient of log f `points` times for `rho` and `points` times `iterations` for `mu`. The
    target is a `Posterior`, since what is sampled is no matter of the sampler:
    `classified(tilted, classifier)` is that of a class, and a user's own log f makes a
    `FunctionLikelihood`.

    The clipping of the estimate to [-1, 1] that the official code does is left out; and its LGD
    gradient, which is divided by the number of points once too often, is not.

    Args:
        schedule: The noise levels.
        rho: Strength of the gradient in x, through the denoiser.
        mu: Strength of the gradient in x_0, not through it.
        iterations: Gradients in x_0 a step.
        spread: Standard deviation of the noise on x_0 by which f is smoothed, times
            `sigma / sqrt(1 + sigma^2)`; 0 does not smooth.
        even: Whether the spread is the same at all levels, not times that.
        points: Draws of that noise, made once a step.
        repeats: How often a step is made.
        between: Lowest and highest level at which it is made more than once; None for all.
        reach: Farthest that either gradient moves the estimate, in the root mean square of its entries over
            `sigma / sqrt(1 + sigma^2)`; None for any distance (the papers).
        renoise: Whether the noise of the next iterate is that of the estimate after (2), as in universal
            guidance, and not that of the denoiser, as in MPGD and TFG.
        eta: Stochasticity of the reverse step; 0 is deterministic and 1 is ancestral.
    """

    schedule: Schedule = field(default_factory=lambda: Table(steps=100))
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
    eta: float = 1.0
    needs: ClassVar[str] = "any differentiable likelihood"

    def __post_init__(self) -> None:
        for name in ("iterations", "points", "repeats"):
            value = getattr(self, name)
            require(value >= 1, f"TFG needs at least one each of its loops; {name}={value}.")
        require(
            0 <= self.spread < math.inf,
            f"TFG needs a standard deviation of at least 0; spread={self.spread}.",
        )
        require(
            self.reach is None or 0 < self.reach < math.inf,
            f"reach is None or above 0; {self.reach} is not.",
        )
        low, high = self.between or (0.0, 0.0)
        require(0 <= low <= high, f"between is a range of noise levels; {self.between} is not.")
        require(0 <= self.eta <= 1, f"eta is from 0 to 1; {self.eta} is not.")

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

        Size and repeats are those of its ImageNet classifier with 500 DDIM steps. Its backward
        step is made by Adam in the paper, and by plain gradients of size `mu` here.
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

    @override
    def evaluations(self, target: Posterior) -> int:
        low, high = self.between or (0.0, math.inf)
        repeated = sum(low <= sigma <= high for sigma in levels_of(self.schedule)[:-1])
        times = self.schedule.steps + repeated * (self.repeats - 1)
        return times * (2 if self.rho.size else 1)

    def init(self, target: Posterior, rng: Rng) -> State:
        """See `Sampler`."""
        x = levels_of(self.schedule)[0] * rng.normal(target.space)
        return State(x=x, x0=x)

    def step(
        self, target: Posterior, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        """See `Sampler`."""
        low, high = self.between or (0.0, math.inf)
        x, x0, x_next = state.x, state.x0, state.x
        for k in range(self.repeats if low <= sigma <= high else 1):
            if k:
                x = x_next + math.sqrt(sigma**2 - sigma_next**2) * rng.normal_like(x_next)
            x0, x_next = self.once(target, x, sigma, sigma_next, rng)
        return State(x=x_next, x0=x0, sigma=sigma, count=state.count + 1)

    def once(
        self, target: Posterior, x: Tensor, sigma: float, sigma_next: float, rng: Rng
    ) -> tuple[Tensor, Tensor]:
        """The estimate after the gradients, and the next iterate."""
        kept, _ = bridge(0.0, sigma_next, sigma, self.eta)
        move = Move(levels_of(self.schedule), sigma, sigma_next, 1 - kept)
        if self.rho.size == self.mu.size == 0:
            x0 = target.prior(x, sigma)
            return x0, reverse_step(x, x0, sigma, sigma_next, self.eta, rng)
        cloud = self.cloud(target, sigma, rng)
        pushed: Tensor | float = 0.0
        if self.rho.size:
            x0, pullback = target.prior.vjp(x, sigma)
            gradient = pullback(smoothed_score(target, x0, cloud))
            # What moves the next iterate by this is a move of the estimate by so much over its share.
            pushed = self.rho.of_iterate(move) / move.share * gradient
            pushed = move.share * self._within(target.space, pushed, sigma)
        else:
            x0 = target.prior(x, sigma)
        moved = x0
        for _ in range(self.iterations if self.mu.size else 0):
            moved = moved + self.mu.of_estimate(move) * smoothed_score(target, moved, cloud)
        climbed = self._within(target.space, moved - x0, sigma)
        pushed = pushed + (move.share if self.renoise else 1.0) * climbed
        return moved, reverse_step(x, x0, sigma, sigma_next, self.eta, rng) + pushed

    def _within(self, space: Space, move: Tensor, sigma: float) -> Tensor:
        """A move of the estimate, shortened if it goes beyond the reach."""
        if self.reach is None:
            return move
        most = self.reach * sigma / math.hypot(1, sigma) * math.sqrt(space.size)
        length = space.norm(move).clamp(min=torch.finfo(move.dtype).tiny)
        return move * (most / length).clamp(max=1)

    def cloud(self, target: Posterior, sigma: float, rng: Rng) -> Tensor | None:
        """The noise on x_0, `[n, points, *event]`; None for none."""
        if self.spread == 0:
            return None
        scale = self.spread * (1.0 if self.even else sigma / math.hypot(1, sigma))
        return scale * rng.normal(target.space, self.points)


def smoothed_score(target: Posterior, x0: Tensor, cloud: Tensor | None) -> Tensor:
    """The gradient of the log of the mean of f over `x0 + cloud`, at `x0` `[n, *event]`."""
    space, likelihood, y = target.space, target.likelihood, target.y
    if cloud is None:
        return likelihood.score(y, x0)
    points = cloud.shape[1]
    x, measurement = (x0[:, None] + cloud).flatten(0, 1), likelihood.measurement
    if measurement is not None and measurement.batch(y).numel() > 1:
        y = y.repeat_interleave(points, 0)
    scores = likelihood.score(y, x).reshape(cloud.shape)
    if points == 1:
        return scores[:, 0]
    weight = likelihood.log_prob(y, x).reshape(len(x0), points).softmax(-1)
    return (space.per_sample(weight) * scores).sum(1)
