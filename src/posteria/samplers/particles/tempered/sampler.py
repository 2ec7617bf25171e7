"""The tempered sampler: sequential Monte Carlo over the noise of the measurement, moved by the diffusion itself."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ....core.errors import CapabilityError, require
from ....core.rng import Rng
from ....core.state import State
from ....diffusion.kernel import bridge
from ....diffusion.scale import prior_draws
from ....diffusion.schedule import Karras, RangeSchedule
from ....linear_gaussian import LARGEST_DENSE, decomposed, linear, several
from ....operators.base import SVDOperator
from ....target import Posterior
from ..filtering import log_normal
from ..population import PopulationSampler, equal, explained, finish, select
from .measurement import TemperedState, Tempering
from .reflection import descend, ladder, over, reach

# Shares of the highest level at which reflections are made, in turn: each is quickest for what varies as much.
SHARES = (1.0, 0.5, 0.25)
# Of the noise of the tempered measurement, what goes into z: all but a little in a run, less where x is reflected.
RUN, REFLECTED = 0.7, 0.6
# The lowest level of the draws of the prior over the highest one of reflections, which do the rest.
LOWEST = 0.3
# The schedule begins so many times above the widest direction of the prior.
WIDE = 4.0
# Share of the steps that is made with more particles, and steps for which there is one more draw of the prior.
BROAD, PER_DRAW = 0.2, 4
# Points on the way of which its length is a sum, and fall of the log of the noise of which its speed is measured.
POINTS, NEAR = 32, 0.05
# Least effective size of a step to the next level, as a share.
LEAST = 0.05
# Effective size, as a share, at which the first level is.
FIRST = 0.5
# Halvings of a factor e^HALVED between two noises.
BISECTIONS, HALVED = 20, 40.0


@dataclass(frozen=True, kw_only=True)
class Tempered(PopulationSampler[TemperedState]):
    """Sequential Monte Carlo over the noise of the measurement, whose moves are the diffusion's own.

    Particles are draws of p(x) N(y_tau; A x, Gamma_tau) with `Gamma_tau = std^2 I + tau A A^T`, for tau from large
    to 0, where it is the posterior. The weights between two tau are ratios of Gaussians: no twist, and
    no estimate of p(y | x) at a noisy x. Particles then move by split Gibbs sweeps that keep that law:
    `z = x + rho * noise` given x and y is Gaussian, and x given z is what the diffusion model draws.

    What is our own: y_tau has the noise that Gamma_tau states, `y_tau = y + sqrt(tau) A noise` with one noise a
    population, but along the leading principal directions of what is measured, where it has none. A measurement that
    is more precise than is claimed favours narrow modes, and a noise along the directions in which modes differ
    favours some of them by chance; either way all particles may leave the right one before tau is 0. In the first
    fifth of the steps, where modes can no longer be reached from each other and yet have other weights than in the end,
    there are more particles: at most one for 8 steps in the place of each. Levels are as near as the steps allow, at
    equal lengths: that of the rest of the way is estimated in every step. And where x given z is nearly
    symmetric, up to a level that is measured once a prior, it is drawn by reflections, `x <- 2 D(z) - x`: one
    evaluation each, no vjp, and exactly the mean and the covariance of x given z. Above that level a reverse run of
    `points` evaluations goes down to it, and x is then reflected about the run's last estimate, by what it is away from
    its own at that level. Where the measurement itself is noisier than reflections reach, that is so down to tau = 0.
    After the first fifth the particles of the next level are taken from those after each reflection of this one
    (waste-free: Dau and Chopin, 2022, arXiv:2011.02328).

    A step costs a particle `points + reflections` evaluations and never a vjp. The number of steps is the budget: of
    `rest` of them all are at tau = 0. The `ess` of a run is the least of all its levels.

    Args:
        schedule: Its highest level is where draws of the prior begin, far above the prior's widest direction,
            and its steps are those of the sampler.
        particles: Size of a population.
        threshold: A population is resampled when its effective size is below this share of it.
        points: Evaluations of a reverse run.
        reflections: Reflections after it, the first of which is the one at its end.
        first: Evaluations of the draws of the prior.
        rest: Share of the steps that is made at tau = 0.
        reach: Highest level of reflections, in data units; by default it is measured.

    Raises:
        InputError: Before the first step, if the schedule begins too low for the prior or the operator measures
            nothing; at the level where it is known, if the prior excludes the measurement.
        CapabilityError: If the operator is nonlinear, or has no decomposition and is too large for one.
    """

    schedule: RangeSchedule = field(default_factory=lambda: Karras(steps=60, sigma_max=160.0))
    particles: int = 256
    threshold: float = 0.7
    points: int = 4
    reflections: int = 4
    first: int = 24
    rest: float = 0.2
    reach: float | None = None
    state_type: ClassVar[type[State]] = TemperedState
    needs: ClassVar[str] = "linear operator with an SVD or of up to 2048 entries, Gaussian noise"
    limits: ClassVar = {
        "particles": "[4, inf)",
        "threshold": "(0, 1)",
        "points": "[2, inf)",
        "reflections": "[1, inf)",
        "first": "[2, inf)",
        "rest": "(0, 1)",
        "reach": "(0, inf]",
    }

    @override
    def narrow(self, posterior: Posterior) -> Posterior:
        operator, std = linear(posterior, by=self)
        sizes = operator.domain.size, operator.codomain.size
        known = isinstance(operator, SVDOperator) and not several(std)
        if not known and max(sizes) > LARGEST_DENSE:
            raise CapabilityError(
                f"{type(self).__name__} decomposes the operator in units of the noise, which is {sizes[1]} x "
                f"{sizes[0]} here and at most {LARGEST_DENSE} a side: give an operator with an SVD and one noise level."
            )
        return posterior

    @override
    def evaluations(self, target: Posterior) -> int:
        moves = sum(self._breadth(count) for count in range(self.schedule.steps))
        each = self._draws * self.first + moves * (self.points + self.reflections)
        return self.particles * each

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        whitened = decomposed(target)
        seen, rng = super().arrange(whitened, seeds)
        operator, std = linear(seen, by=self)
        if not isinstance(operator, SVDOperator):
            raise TypeError("`narrow` has let an operator through that has no decomposition")
        s, level = operator.singular_values.double(), float(torch.as_tensor(std).flatten()[0])
        require(
            float(s.max()) > 0,
            "The operator measures nothing: all its singular values are 0, and the posterior is the prior, from which "
            "Unconditional draws.",
        )
        y = operator.ut(seen.y).double()
        y = y if y.ndim > 1 else y[None, None]
        inside, outside = y[..., : len(s)], y[..., len(s) :]
        everywhere = torch.ones(outside.shape[-1:], dtype=torch.bool, device=y.device)
        variance = torch.full_like(outside, level**2)
        constant = log_normal(outside, 0.0, variance, everywhere)[:, 0]
        if whitened is not target:
            noise = torch.as_tensor(linear(target, by=self).std, dtype=torch.float64)
            entries = target.likelihood.measurement or seen.space
            constant = constant - float(noise.log().expand(entries.shape).sum())
        return Tempering(seen.prior, operator, inside, s, level, constant), rng

    @override
    def init(self, target: Any, rng: Rng) -> TemperedState:
        problem: Tempering = target
        draws, space = prior_draws(problem.prior), problem.space
        wide = float(torch.linalg.svdvals(space.flatten(draws - draws.mean(0)))[0])
        wide /= (len(draws) - 1) ** 0.5
        highest = self.schedule.sigma_max
        require(
            highest >= WIDE * wide,
            f"{type(self).__name__} begins at sigma_max={highest:.4g}, which is not far above the prior: its "
            f"widest direction has a standard deviation of about {wide:.3g}. Give a schedule with "
            f"sigma_max={10 * wide:.3g}.",
        )
        reached = reach(problem.prior) if self.reach is None else self.reach
        populations, device = len(rng), problem.y.device
        top = torch.full((populations, 1), highest, dtype=torch.float64, device=device)
        low = (LOWEST * top.new_tensor(min(reached, wide))).expand_as(top)
        levels, begin = ladder(top, low, self.first), draws.mean(0)
        parts = []
        for _ in range(self._draws):
            x = begin + math.hypot(highest, wide) * rng.normal(space, self.particles)
            parts.append(self._run(problem, x, levels, rng))
        x = torch.cat(parts, 1)
        noise = rng.normal_like(top.new_empty(populations, 1, len(problem.s)))
        state = TemperedState(
            **equal(x, problem.constant),
            tau=torch.full_like(top[:, 0], math.inf),
            noise=problem.quiet(noise, x),
            reach=reached,
        )
        return self._temper(problem, state, 0, rng)

    def _run(self, problem: Tempering, x: Tensor, levels: Tensor, rng: Rng) -> Tensor:
        """The last estimate of a reverse run over levels `[points, populations, 1]`."""
        before = x0 = x
        for j, level in enumerate(levels):
            before, x0 = x0, problem.prior(x, level.expand(x.shape[:2]).to(x))
            if j + 1 < len(levels):
                x = descend(x, x0, before, levels, j, rng.normal_like(x))
        return x0

    @override
    def step(
        self, target: Any, state: TemperedState, sigma: float, sigma_next: float, rng: Rng
    ) -> TemperedState:
        problem: Tempering = target
        parts = [replace(state, x=x) for x in torch.split(state.x, self.particles, 1)]
        # Of more particles only the last states are kept, which are as many.
        most = None if len(parts) == 1 else 1
        moved = [deque(self._move(problem, part, rng), most) for part in parts]
        kept = [torch.cat(each, 1) for each in zip(*moved, strict=True)]
        state = replace(state, x=kept[-1], x0=kept[-1], sigma=sigma, count=state.count + 1)
        if sigma_next == 0:
            last = problem.log_prob(problem.gaps(state.x), state.noise, state.tau)
            explained(problem.off(last, state.tau), len(problem.s), self)
            return finish(state, rng)
        steps = self.schedule.steps
        left = steps - max(1, round(self.rest * steps)) - state.count + 1
        return (
            state if left <= 0 else self._temper(problem, _pooled(problem, state, kept), left, rng)
        )

    def _move(self, problem: Tempering, state: TemperedState, rng: Rng) -> Iterator[Tensor]:
        """The particles after each evaluation of a step.

        It is a reflection, or, where these do not reach so high, one of a reverse run and, at its end, of what is
        beside it. Populations of one batch are evaluated together, and each draws the same numbers whatever it does
        with them.
        """
        x, tau, prior = state.x, state.tau, problem.prior
        y = problem.noised(state)
        variance = tau + RUN * problem.floor
        wide = _wide(problem, state)
        most = (REFLECTED * (tau + problem.floor)).sqrt().clamp(max=state.reach)
        levels = ladder(variance.sqrt()[:, None], most[:, None], self.points)
        chosen = wide.reshape(-1, *(1,) * (x.ndim - 1))
        path = before = x0 = problem.couple(x, y, tau, variance, rng)
        # On the way from x to where the run begins, at the level where it ends: what the run leaves out of the
        # variance of x given z, which is that at its last level, x has beyond its estimate from here.
        weight, std = bridge(0.0, most, variance.sqrt())
        beside = x + over(weight, x) * (path - x) + over(std, x) * rng.normal_like(x)
        z: Tensor | None = None
        for j in range(self.points + self.reflections):
            running = j < self.points
            rho = most if j <= self.points else most * SHARES[(state.count + j) % len(SHARES)]
            # Opposite to the last z, x goes on in the direction in which it went.
            z = problem.couple(x, y, tau, rho**2, rng, z if running else None)
            at = torch.where(wide[:, None], levels[j], rho[:, None]) if running else rho[:, None]
            if j <= self.points:
                z = torch.where(chosen, path if running else beside, z)
            mean = prior(z, at.expand(x.shape[:2]).to(x))
            other = torch.where(chosen, x0, mean) if j == self.points else mean
            mirrored = (mean + other).sub_(x)
            x = torch.where(chosen, x, mirrored) if running else mirrored
            if running:
                before, x0 = x0, mean
                if j + 1 < self.points:
                    path = descend(path, x0, before, levels, j, rng.normal_like(x))
            yield x

    def _temper(
        self, problem: Tempering, state: TemperedState, left: int, rng: Rng
    ) -> TemperedState:
        """Go on to the next tau: weigh the particles, and resample them where few weigh much.

        Args:
            problem: The measurement.
            state: The populations.
            left: Steps until tau is 0, this one included.
            rng: One stream a population.
        """
        gaps, before = problem.gaps(state.x), state.tau
        begun = before.isfinite()
        finite = torch.where(begun, before, problem.floor * math.exp(HALVED))
        level, floor, least = finite + problem.floor, problem.floor, state.ess
        base = problem.log_prob(gaps, state.noise, finite) * begun[:, None]
        explained(problem.off(base, finite) * begun[:, None], len(problem.s), self)
        old = state.log_weight.softmax(-1)

        def effective(tau: Tensor) -> Tensor:
            """Conditional effective size, as a share (Zhou, Johansen and Aston, 2016, arXiv:1303.3123)."""
            change = problem.log_prob(gaps, state.noise, tau) - base
            change = torch.where(old > 0, change, -math.inf)
            weight = (change - change.amax(-1, keepdim=True)).exp()
            return (old * weight).sum(-1).square() / (old * weight.square()).sum(-1)

        def spread(tau: Tensor) -> Tensor:
            return (-2 * effective(tau).clamp(max=1).log()).sqrt()

        step = self._length(problem, state.noise, finite, spread) / left if left > 1 else math.inf
        share = torch.where(begun, (-torch.as_tensor(step).square() / 2).exp(), FIRST)
        enough = share.clamp(min=LEAST if left > 1 else 0.0)
        high, low = finite.log(), finite.log() - 2 * HALVED
        for _ in range(BISECTIONS):
            middle = (high + low) / 2
            down = effective(middle.exp()) >= enough
            high, low = torch.where(down, middle, high), torch.where(down, low, middle)
        tau = torch.where(effective(torch.zeros_like(high)) >= enough, 0.0, high.exp())
        # Where the steps are too few, they are equal ones of the log of the noise.
        even = (level * (floor / level) ** (1 / max(left, 1)) - floor).clamp(min=0)
        tau = torch.where(begun & (share < LEAST), tau.minimum(even), tau)
        tau = torch.where(before > 0, tau, 0.0)
        change = problem.log_prob(gaps, state.noise, tau) - base
        weight = state.log_weight + torch.where(before[:, None] > 0, change, 0.0)
        # What moves at tau = 0 has equal weights.
        threshold = torch.where(tau > 0, self.threshold, 1.0)
        part = self.particles / state.x.shape[1]
        state, size = replace(state, tau=tau, log_weight=weight), self._breadth(state.count)
        state, _ = select(state, rng, threshold, self.particles * size)
        if state.ess is None:
            return state
        # Of so many particles as are given back, whatever they were taken from.
        ess = (part * state.ess).clamp(min=1.0)
        ess = ess if least is None else torch.where(before > 0, ess.minimum(least), least)
        return replace(state, ess=ess)

    def _length(
        self, problem: Tempering, noise: Tensor, tau: Tensor, spread: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """About how long the way to tau = 0 is, `[populations]`: a step of length l has an effective size e^(-l^2/2).

        Of the length that it would have if every measured direction counted, a share is there now, which grows as the
        noise falls.

        Args:
            problem: The measurement.
            noise: As in the state.
            tau: Where it begins, `[populations]`.
            spread: Length of the step to a tau `[populations]`.
        """
        floor = problem.floor
        share = torch.linspace(0, 1, POINTS, dtype=tau.dtype, device=tau.device)
        fall = ((tau + floor) / floor).log()[:, None] * share
        way = ((tau[:, None] + floor) * (-fall).exp() - floor).clamp(min=0)
        steps = problem.length(noise, way)
        near = ((tau + floor) * math.exp(-NEAR) - floor).clamp(min=0)
        full = problem.length(noise, torch.stack([tau, near], -1))[:, 0]
        now = spread(near) / full.clamp(min=torch.finfo(full.dtype).tiny)
        grown = now[:, None] * (fall[:, 1:] / 2).exp()
        return (steps * grown.clamp(max=1)).sum(-1)

    @property
    def _draws(self) -> int:
        """Draws of the prior for each particle."""
        return max(1, self.schedule.steps // PER_DRAW)

    def _breadth(self, count: int) -> int:
        """How many times as many particles there are after some steps: half of the draws, and ever fewer."""
        left = max(0.0, 1 - count / (BROAD * self.schedule.steps))
        return math.ceil(math.pow(max(1.0, self._draws * FIRST), left))


def _wide(problem: Tempering, state: TemperedState) -> Tensor:
    """Which populations are above the reach of reflections, `[populations]`; all are where even tau = 0 is."""
    return state.tau.clamp(min=REFLECTED * problem.floor).sqrt() > state.reach


def _pooled(problem: Tempering, state: TemperedState, kept: list[Tensor]) -> TemperedState:
    """A state whose particles are those after every evaluation (waste-free, Dau and Chopin, 2022, arXiv:2011.02328).

    Of a step with a reverse run it is only the last ones.
    """
    moves, x = len(kept), torch.cat(kept, 1)
    counted = torch.ones(len(x), moves, dtype=torch.float64, device=x.device)
    counted[:, :-1] = torch.where(_wide(problem, state)[:, None], 0.0, counted[:, :-1])
    weight = (counted / counted.mean(-1, keepdim=True)).log()[..., None] + state.log_weight[
        :, None
    ]
    first = None if state.first is None else state.first.repeat(1, moves)
    return replace(state, x=x, x0=x, log_weight=weight.flatten(1), first=first)
