"""The tempered sampler: sequential Monte Carlo over the noise of the measurement, moved by the diffusion itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ....core.errors import CapabilityError, InputError, require
from ....core.rng import Rng
from ....core.state import State
from ....diffusion.scale import prior_draws
from ....diffusion.schedule import Karras, RangeSchedule
from ....linear_gaussian import LARGEST_DENSE, decomposed, linear, several
from ....operators.base import SVDOperator
from ....target import Posterior
from ..filtering import log_normal
from ..population import PopulationSampler, finish, select, take
from .measurement import TemperedState, Tempering
from .reflection import descend, ladder, reach

# Shares of the highest level at which reflections are made, in turn: each is quickest for what varies as much.
SHARES = (1.0, 0.5, 0.25)
# Of the noise of the tempered measurement, what goes into z: all but a little in a run, less where x is reflected.
RUN, REFLECTED = 0.7, 0.6
# The lowest level of a reverse run over the highest one of reflections, which do the rest.
LOWEST = 0.3
# The schedule begins so many times above the widest direction of the prior.
WIDE = 4.0
# Steps that a level takes at most: 1, and one for so many that are left over.
SPARE = 10
# Effective size, as a share, at which the first level is.
FIRST = 0.5
# Halvings of a factor e^HALVED between two noises.
BISECTIONS, HALVED = 60, 40.0


@dataclass(frozen=True, kw_only=True)
class Tempered(PopulationSampler[TemperedState]):
    """Sequential Monte Carlo over the noise of the measurement, whose moves are the diffusion's own.

    Particles are draws of p(x) N(y_tau; A x, Gamma_tau) with `Gamma_tau = std^2 I + tau A A^T`, for tau from large
    to 0, where it is the posterior. The weights between two tau are ratios of Gaussians: no twist, and
    no estimate of p(y | x) at a noisy x. Particles then move by split Gibbs sweeps that keep that law:
    `z = x + rho * noise` given x and y is Gaussian, and x given z is what the diffusion model draws. The next
    tau is the one at which the effective size is `threshold`, and it comes when particles have forgotten where they
    were at the last one.

    What is our own: y_tau has the noise that Gamma_tau states, `y_tau = y + sqrt(tau) A noise` with one noise a
    population. A measurement that is more precise than is claimed favours narrow modes, and on the way to tau = 0 all
    particles may leave the right one. And where x given z is nearly symmetric, up to a level that is measured
    once a prior, it is drawn by a reflection, `x <- 2 D(z) - x`: one evaluation, no vjp, and exactly the mean and the
    covariance of x given z. Above that level it is drawn by a reverse run of `points` evaluations.

    The samplers' theory is that of Del Moral, Doucet and Jasra (2006, doi:10.1111/j.1467-9868.2006.00553.x); split
    Gibbs sweeps are those of Vono, Dobigeon and Chainais (2018, arXiv:1804.05809), and with a diffusion those of Wu et
    al. (2024, arXiv:2405.18782), without weights and with rho > 0 at the end.

    A step costs a particle `points + reflections` evaluations and never a vjp. The number of steps is the budget: of
    `rest` of them all are at tau = 0, and where they do not suffice for levels as near as `threshold` asks for, the
    levels are further apart. The `ess` of a run is the least of all its levels.

    Args:
        schedule: Its highest level is where draws of the prior begin, far above the prior's widest direction,
            and its steps are those of the sampler.
        particles: Size of a population.
        threshold: Effective size of a population at its next tau, as a share of it, after which it is resampled.
        points: Evaluations of a reverse run.
        reflections: Reflections after it.
        first: Evaluations of the draws of the prior.
        forgotten: Correlation with what the particles were at the last tau at which the next one comes.
        rest: Share of the steps that is made at tau = 0.
        reach: Highest level of reflections, in data units; by default it is measured.

    Raises:
        InputError: In the first step, if the schedule begins too low for the prior.
        CapabilityError: If the operator is nonlinear, or has no decomposition and is too large for one.
    """

    schedule: RangeSchedule = field(default_factory=lambda: Karras(steps=60, sigma_max=160.0))
    particles: int = 256
    threshold: float = 0.7
    points: int = 8
    reflections: int = 4
    first: int = 24
    forgotten: float = 0.5
    rest: float = 0.2
    reach: float | None = None
    state_type: ClassVar[type[State]] = TemperedState
    needs: ClassVar[str] = "linear operator with an SVD or of up to 2048 entries, Gaussian noise"
    fewest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.threshold < 1,
            f"threshold is a share of the particles between 0 and 1; {self.threshold} is not.",
        )
        require(
            self.points >= 2 and self.reflections >= 0 and self.first >= 2,
            "A reverse run has at least 2 points, and reflections are at least 0; got "
            f"points={self.points}, first={self.first}, reflections={self.reflections}.",
        )
        require(
            0 < self.forgotten < 1 and 0 < self.rest < 1,
            f"forgotten and rest are between 0 and 1; got {self.forgotten} and {self.rest}.",
        )
        require(
            self.reach is None or self.reach > 0,
            f"reach is None or a level above 0; {self.reach} is not.",
        )

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
        each = self.first + self.schedule.steps * (self.points + self.reflections)
        return self.particles * each

    @override
    def arrange(self, target: Posterior, seeds: Sequence[int]) -> tuple[Any, Rng]:
        whitened = decomposed(target)
        seen, rng = super().arrange(whitened, seeds)
        operator, std = linear(seen, by=self)
        if not isinstance(operator, SVDOperator):
            raise TypeError("`narrow` has let an operator through that has no decomposition")
        s, level = operator.singular_values.double(), float(torch.as_tensor(std).flatten()[0])
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
            f"{type(self).__name__} begins at sigma_max={highest:.4g}, which does not dwarf the prior: its "
            f"widest direction has a standard deviation of about {wide:.3g}. Give a schedule with "
            f"sigma_max={10 * wide:.3g}.",
        )
        reached = reach(problem.prior) if self.reach is None else self.reach
        populations, device = len(rng), problem.y.device
        top = torch.full((populations, 1), highest, dtype=torch.float64, device=device)
        low = (LOWEST * top.new_tensor(min(reached, wide))).expand_as(top)
        x = draws.mean(0) + math.hypot(highest, wide) * rng.normal(space, self.particles)
        x = self._run(problem, x, ladder(top, low, self.first), rng)
        zeros = torch.zeros(populations, self.particles, dtype=torch.float64, device=device)
        shape = (populations, 1, len(problem.s))
        state = TemperedState(
            x=x,
            x0=x,
            log_weight=zeros,
            log_evidence=zeros[:, 0] + problem.constant,
            tau=torch.full_like(zeros[:, 0], math.inf),
            noise=rng.normal_like(torch.empty(shape, dtype=torch.float64, device=device)),
            start=x,
            rounds=torch.zeros_like(zeros[:, 0], dtype=torch.long),
            fall=torch.full_like(zeros[:, 0], 1.0),
            reach=reached,
        )
        lowest = torch.zeros_like(state.tau)
        return self._temper(problem, state, lowest == 0, lowest, FIRST, rng)

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
        x = self._move(problem, state, rng)
        state = replace(
            state, x=x, x0=x, sigma=sigma, count=state.count + 1, rounds=state.rounds + 1
        )
        if sigma_next == 0:
            return finish(state, rng)
        forgotten = _correlation(x, state.start) < self.forgotten
        due, lowest = self._pace(problem, state)
        ready = (state.tau > 0) & (due | forgotten)
        return self._temper(problem, state, ready, lowest, self.threshold, rng)

    def _move(self, problem: Tempering, state: TemperedState, rng: Rng) -> Tensor:
        """The particles after a reverse run, where reflections do not reach so high, and some reflections.

        Populations of one batch are evaluated together, and each draws the same numbers whatever it does with them.
        """
        x, tau, prior = state.x, state.tau, problem.prior
        y = problem.noised(state)
        variance = tau + RUN * problem.floor
        wide = variance.sqrt() > state.reach
        most = (REFLECTED * (tau + problem.floor)).sqrt().clamp(max=state.reach)
        high = variance.sqrt()[:, None]
        levels = ladder(high, (LOWEST * most[:, None]).minimum(high / 2), self.points)
        chosen = wide.reshape(-1, *(1,) * (x.ndim - 1))
        path = before = x0 = problem.couple(x, y, tau, variance, rng)
        z: Tensor | None = None
        for j in range(self.points + self.reflections):
            running = j < self.points
            rho = most if running else most * SHARES[(state.count + j) % len(SHARES)]
            # Opposite to the last z, x goes on in the direction in which it went.
            z = problem.couple(x, y, tau, rho**2, rng, z if running else None)
            if not running:
                x = 2 * prior(z, rho[:, None].expand(x.shape[:2]).to(x)) - x
                continue
            at = torch.where(wide[:, None], levels[j], rho[:, None]).expand(x.shape[:2])
            mean = prior(torch.where(chosen, path, z), at.to(x))
            before, x0 = x0, mean
            if j + 1 < self.points:
                path = descend(path, x0, before, levels, j, rng.normal_like(x))
            x = torch.where(chosen, x0 if j + 1 == self.points else x, 2 * mean - x)
        return x

    def _pace(self, problem: Tempering, state: TemperedState) -> tuple[Tensor, Tensor]:
        """Which populations must go on to their next tau, and how low that is at least, so that the steps suffice.

        What is left over goes to the first levels, where modes are still in reach of each other.
        """
        steps = self.schedule.steps
        left = steps - max(1, round(self.rest * steps)) - state.count + 1
        due, lowest = [], []
        for tau, fall, rounds in zip(
            state.tau.tolist(), state.fall.tolist(), state.rounds.tolist(), strict=True
        ):
            level, expected = tau + problem.floor, self._levels(problem, tau, fall)
            due.append(rounds >= 1 + (left - expected) / SPARE)
            share = (problem.floor / level) ** (1 / left) if left > 1 else 0.0
            lowest.append(max(level * share - problem.floor, 0.0))
        device = state.tau.device
        return torch.tensor(due, device=device), state.tau.new_tensor(lowest)

    def _levels(self, problem: Tempering, tau: float, fall: float) -> float:
        """About how many more levels lead from tau to 0.

        The noise falls from level to level by a share that shrinks with its root from the last one on, down to that
        where every measured direction counts.
        """
        spread, count, first = math.sqrt(-2 * math.log(self.threshold)), 0, tau + problem.floor
        while tau > 0:
            level = tau + problem.floor
            share = level * problem.s**2 / (problem.std**2 + tau * problem.s**2)
            least = spread / float(share.square().sum().sqrt())
            step = max(least, fall * math.sqrt(level / first))
            tau, count = level * math.exp(-step) - problem.floor, count + 1
        return count

    def _temper(
        self,
        problem: Tempering,
        state: TemperedState,
        ready: Tensor,
        lowest: Tensor,
        share: float,
        rng: Rng,
    ) -> TemperedState:
        """Go on to the next tau where a population is `ready`: weigh its particles and resample them.

        Args:
            problem: The measurement.
            state: The populations.
            ready: Which of them go on.
            lowest: They go at least down to this tau.
            share: Effective size at which the next tau is.
            rng: One stream a population.
        """
        gaps, before = problem.gaps(state.x), state.tau
        begun = before.isfinite()
        finite = torch.where(begun, before, 1.0)
        base = problem.log_prob(gaps, state.noise, finite) * begun[:, None]
        if not base.isfinite().all():
            raise InputError(
                f"{type(self).__name__} gives every particle the weight 0: the measurement is outside of what the "
                "prior and the noise allow. Look at the units of y, the operator and the noise level."
            )

        def effective(tau: Tensor) -> Tensor:
            weight = (problem.log_prob(gaps, state.noise, tau) - base).softmax(-1)
            return 1 / weight.square().sum(-1) / weight.shape[-1]

        top = torch.where(begun, before, problem.floor * math.exp(HALVED))
        high, low = top.log(), top.log() - 2 * HALVED
        # What is not ready keeps its tau.
        for _ in range(BISECTIONS if ready.any() else 0):
            middle = (high + low) / 2
            enough = effective(middle.exp()) >= share
            high, low = torch.where(enough, middle, high), torch.where(enough, low, middle)
        tau = high.exp()
        tau = torch.where(effective(torch.zeros_like(tau)) >= share, 0.0, tau)
        tau = torch.where(lowest < before, tau.minimum(lowest), tau) if begun.all() else tau
        tau = torch.where(ready, tau, before)
        fall = ((finite + problem.floor) / (tau + problem.floor)).log()
        weight = problem.log_prob(gaps, state.noise, torch.where(ready, tau, finite)) - base
        weight = torch.where(ready[:, None], weight, 0.0)
        least = state.ess
        state, ancestors = select(replace(state, log_weight=weight), rng, 1.0)
        if least is not None and state.ess is not None:
            state = replace(state, ess=torch.where(ready, state.ess.minimum(least), least))
        fresh = ready.reshape(-1, *(1,) * (state.x.ndim - 1))
        return replace(
            state,
            tau=tau,
            start=torch.where(fresh, state.x, take(state.start, ancestors)),
            rounds=torch.where(ready, 0, state.rounds),
            fall=torch.where(ready & begun, fall, state.fall),
        )


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Of particles then and now, each direction by its variance, `[populations]`."""
    x, y = ((z - z.mean(1, keepdim=True)).flatten(1).double() for z in (x, y))
    norms = x.norm(dim=-1) * y.norm(dim=-1)
    correlation: Tensor = (x * y).sum(-1) / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    return correlation
