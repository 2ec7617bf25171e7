"""Simulations: truths of the prior, their measurements, and samples of their posteriors."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..core.errors import ShapeError, expect, require, whole
from ..core.meter import Cost
from ..core.rng import SEED_LIMIT, Rng
from ..core.settings import as_number
from ..diffusion.denoiser import Denoiser
from ..latent import decoder_of, measured
from ..likelihood import GaussianLikelihood, Likelihood
from ..metrics.calibration import sbc_ranks
from ..samplers.base import Sampler
from ..samplers.posterior import PosteriorSampler
from ..samplers.unconditional import Unconditional
from ..target import Posterior
from .certificate import FEWEST, FEWEST_SAMPLES, Certificate, Residual, Statistic, curve, judge
from .statistics import Chosen, Group, Kind, groups, resolution

# Truths have the upper half of the seeds, and samples the lower, so that they share no noise.
TRUTHS = SEED_LIMIT // 2


@runtime_checkable
class Direct(Protocol):
    """A prior that draws from itself, such as an analytic one."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is simulated; arguments as of `certify`. Simulation i is a function of `seed + i` alone.

    19 samples make the ends of 50 % and 90 % intervals whole ranks. A simulation is never cut by a batch.

    Raises:
        PosteriaError: If a number is out of range, or the sampler does not fit.
    """

    sampler: PosteriorSampler[Any]
    prior: Denoiser
    likelihood: Likelihood
    simulations: int = 100
    samples: int = 19
    seed: int = 0
    batch: int = 64
    truths: Sampler[Any] = field(default_factory=Unconditional)
    statistics: Chosen | None = None
    levels: int = 0
    level: float = 0.01

    def __post_init__(self) -> None:
        expect(self.sampler, PosteriorSampler, by="A certificate")
        expect(self.prior, Denoiser, by="A certificate")
        expect(self.likelihood, Likelihood, by="A certificate")
        expect(self.truths, Sampler, by="A certificate")
        check_numbers(self.simulations, self.samples, self.level)
        decoder = decoder_of(self.prior)
        if decoder is not None:
            object.__setattr__(self, "likelihood", measured(self.likelihood, decoder))
        for name, least in (("levels", 0), ("batch", 1), ("seed", 0)):
            whole(getattr(self, name), name, least)
        require(self.levels != 1, "Signals have 2 levels or more, or 0 for all.")
        require(
            (self.seed + self.simulations) * self._stride <= TRUTHS,
            f"Seeds of the samples are below 2^31, {self._stride} a simulation; seed {self.seed} with "
            f"{self.simulations} simulations goes beyond.",
        )
        # What does not fit is known before a truth is drawn.
        self.sampler.check(
            self.target(self.measure(self.prior.space.zeros(1), [0])), self.seeds(0)
        )
        _ = self.names

    @cached_property
    def groups(self) -> list[Group]:
        """What is ranked."""
        return groups(self.statistics, self.prior.space, self.likelihood)

    @cached_property
    def names(self) -> list[tuple[str, Kind]]:
        """Names and kinds of all statistics."""
        x, found = self.prior.space.zeros(2), []
        y = self.measure(x[:1], [0])[0]
        for group in self.groups:
            width = group(x, y).shape[1]
            single = {"entries": "entry", "projections": "projection"}.get(group.name, group.name)
            names = [f"{single} {k + 1}" for k in range(width)] if width > 1 else [single]
            found += [(name, group.kind) for name in names]
        return found

    @property
    def _stride(self) -> int:
        """Seeds of a simulation, whole populations where samples share one."""
        shared = self.sampler.shared
        return math.ceil(self.samples / shared) * shared

    def seeds(self, first: int, count: int = 1) -> list[int]:
        """Seeds of the samples of some simulations."""
        starts = [(self.seed + i) * self._stride for i in range(first, first + count)]
        return [start + k for start in starts for k in range(self.samples)]

    @property
    def truth_seeds(self) -> range:
        """Seeds of the truths and of their noise."""
        return range(TRUTHS + self.seed, TRUTHS + self.seed + self.simulations)

    @property
    def batches(self) -> list[range]:
        """Simulations that are drawn in one batch."""
        size = max(1, self.batch // max(self.samples, self.sampler.shared))
        starts = range(0, self.simulations, size)
        return [range(start, min(start + size, self.simulations)) for start in starts]

    def drawn_directly(self) -> Tensor | None:
        """Exact draws of a prior that draws from itself, `[simulations, *event]`; None if it does not."""
        if not isinstance(self.prior, Direct):
            return None
        device, draws = self.prior.space.device, []
        for seed in self.truth_seeds:
            generator = torch.Generator(device).manual_seed(seed)
            draws.append(self.prior.sample(1, generator))
        name, shape = f"{type(self.prior).__name__}.sample", (1, *self.prior.space.shape)
        for draw in draws:
            if not isinstance(draw, Tensor) or tuple(draw.shape) != shape:
                given = tuple(draw.shape) if isinstance(draw, Tensor) else type(draw).__name__
                raise ShapeError(f"{name}(1, generator) gives a tensor {shape}; this is {given}.")
        drawn = torch.cat(draws).to(self.prior.space.dtype)
        require(
            bool(drawn.isfinite().all()),
            f"{name} gives truths that are not finite, which cannot be measured.",
        )
        return drawn

    @property
    def source(self) -> str:
        """How truths are drawn, in words."""
        if isinstance(self.prior, Direct):
            return "exact draws of the prior"
        return f"draws of the prior by {self.truths!r}, which approximate it"

    def measure(self, truths: Tensor, seeds: Sequence[int]) -> Tensor:
        """Measurements of truths, `[n, *measurement]`, with noise of their own seeds."""
        space = self.prior.space
        likelihood = self.likelihood.to(space.dtype, space.device)
        return likelihood.sample(truths, Rng(seeds, space.device, stream=1))

    def target(self, y: Tensor) -> Posterior:
        """The posteriors of some simulations, `[count, *measurement]`, one for each of their samples."""
        rows = y[0] if len(y) == 1 else y.repeat_interleave(self.samples, 0)
        return Posterior(self.prior, self.likelihood, rows)


def check_numbers(simulations: int, samples: int, level: float = 0.01) -> None:
    """Raise `InputError` for numbers from which no certificate can be made."""
    require(
        type(simulations) is int and simulations >= FEWEST,
        f"A certificate needs at least {FEWEST} simulations, and 100 to be worth much; got {simulations!r}.",
    )
    require(
        type(samples) is int and samples >= FEWEST_SAMPLES,
        f"A truth is ranked among at least {FEWEST_SAMPLES} samples, and among 19 for whole 90 % intervals; "
        f"got {samples!r}.",
    )
    chance = as_number(level)
    require(
        chance is not None and 0 < chance < 1,
        f"level={level!r} is not a probability between 0 and 1.",
    )


class Ranked(NamedTuple):
    """What is kept of one simulation.

    Attributes:
        ranks: Of the truth in each statistic, `[statistics]`.
        counts: How many entries of the truth have which rank, `[samples + 1]`.
        residual: As `_residual` gives it; None where noise is not Gaussian.
    """

    ranks: Tensor
    counts: Tensor
    residual: tuple[float, float] | None


def ranked(design: Design, i: int, truth: Tensor, y: Tensor, x: Tensor) -> Ranked:
    """The ranks of one simulation: its truth `[*event]`, measurement and samples `[samples, *event]`."""
    generator = torch.Generator().manual_seed(design.truth_seeds[i])
    both = torch.cat([truth[None], x])
    seen = resolution(design.levels)(both)
    # The fit to the measurement is that of the signals as they are.
    values = torch.cat(
        [group(both if group.kind == "fit" else seen, y) for group in design.groups], 1
    ).cpu()
    entries = design.prior.space.flatten(seen).cpu()
    counts = torch.bincount(
        sbc_ranks(entries[1:], entries[0], generator), minlength=design.samples + 1
    )
    return Ranked(sbc_ranks(values[1:], values[0], generator), counts, _residual(design, x, y))


def _residual(design: Design, x: Tensor, y: Tensor) -> tuple[float, float] | None:
    """Root mean square in the mean over samples, and the sum of squares of the first sample."""
    likelihood = design.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return None
    likelihood = likelihood.to(x.dtype, x.device)
    z = likelihood.operator.codomain.flatten((y - likelihood.operator(x)) / likelihood.std)
    square = z.double().square()
    return float(square.mean(-1).sqrt().mean()), float(square[0].sum())


def concluded(design: Design, truths: Tensor, y: Tensor, x: Tensor, cost: Cost) -> Certificate:
    """The certificate of simulations: truths and measurements of each, and `samples` samples.

    Raises:
        InputError: If hardly any simulation has finite samples.
    """
    good = x.flatten(1).isfinite().all(1)
    left = [int(i) for i in good.nonzero()]
    require(
        len(left) >= FEWEST,
        f"{len(x) - len(left)} of {len(x)} simulations have samples that are not finite: the sampler diverged. "
        "Try more steps, or another sampler.",
    )
    kept = [ranked(design, i, truths[i], y[i], x[i]) for i in left]
    ranks = torch.stack([each.ranks for each in kept])
    generator = torch.Generator().manual_seed(TRUTHS + design.seed)
    curves = {"entries": curve(torch.stack([each.counts for each in kept]))}
    within = [i for i, (name, _) in enumerate(design.names) if name.startswith("projection ")]
    if within:
        which = torch.arange(design.samples + 1)
        curves["projections"] = curve((ranks[:, within, None] == which).sum(1))
    statistics, residual = _expected(design, y, kept, ranks, generator)
    return Certificate(
        simulations=design.simulations,
        samples=design.samples,
        level=design.level,
        statistics=statistics,
        curves=curves,
        residual=residual,
        lost=len(x) - len(left),
        truths=design.source,
        cost=cost,
    )


def _expected(
    design: Design, y: Tensor, kept: Sequence[Ranked], ranks: Tensor, generator: torch.Generator
) -> tuple[list[Statistic], Residual | None]:
    """The tests of ranks, and of residuals where the noise is Gaussian."""
    known = [each.residual for each in kept if each.residual is not None]
    if not known:
        return judge(ranks, design.names, design.samples, generator)[0], None
    n, m = len(known), y[0].numel()
    means, squares = torch.tensor(known, dtype=torch.float64).T
    half, total = torch.tensor(n * m / 2, dtype=torch.float64), squares.sum() / 2
    sides = torch.special.gammainc(half, total), torch.special.gammaincc(half, total)
    p = min(1.0, 2 * float(min(sides)))
    statistics, (adjusted,) = judge(ranks, design.names, design.samples, generator, [p])
    # Each exact sample has the residual of its truth, chi / sqrt(m); the mean of several of one simulation
    # scatters less, so that the interval is a little wide.
    middle, error = 1 - 1 / (4 * m), 2.576 / math.sqrt(2 * m * n)
    return statistics, Residual(
        samples=float(means.mean()),
        error=float(means.std()) / math.sqrt(n),
        low=middle - error,
        high=middle + error,
        first=float(squares.mean()) / m,
        p_value=p,
        adjusted=adjusted,
    )


def certify(
    sampler: PosteriorSampler[Any],
    prior: Denoiser,
    likelihood: Likelihood,
    simulations: int = 100,
    *,
    samples: int = 19,
    statistics: Chosen | None = None,
    seed: int = 0,
    batch: int = 64,
    truths: Sampler[Any] | None = None,
    levels: int = 0,
    level: float = 0.01,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Certificate:
    """Simulation-based calibration of a sampler (Talts et al., 2018, arXiv:1804.06788) on a prior and a measurement.

    Draws truths from the prior, measures them, samples their posteriors, and tests whether the ranks of the truths
    among their samples are uniform, as those of an exact sampler are. `posteria certify` does the same for a named
    prior, can be stopped, and writes a page. What a certificate cannot show is in docs/certify.md.

    Args:
        sampler: What is certified, with its settings.
        prior: Taken for true. One with a method `sample(n, generator)` draws its truths exactly. Of latents these are
            ranked, and what they are decoded to is measured.
        likelihood: Has to simulate measurements.
        simulations: Number of truths, at least 10.
        samples: Samples of each posterior, at least 4.
        statistics: What is ranked: names of `certification.STATISTICS`, or your own functions by name, beside them
            all, that take signals `[n, *event]` to `[n]` or `[n, k]`.
        seed: Of the first simulation; simulation i is a function of `seed + i` alone.
        batch: Samples drawn in one batch, about.
        truths: Draws truths of a prior that cannot; by default `Unconditional()`.
        levels: Levels to which signals are rounded before they are ranked, such as 256 for pictures; 0 for none.
        level: Probability of calling an exact sampler wrong, over all tests.
        advance: Called with the number of finished simulations and that of all.

    Raises:
        PosteriaError: If a number is out of range, the sampler does not fit, or it diverges.
    """
    design = Design(
        sampler=sampler,
        prior=prior,
        likelihood=likelihood,
        simulations=simulations,
        samples=samples,
        seed=seed,
        batch=batch,
        truths=Unconditional() if truths is None else truths,
        statistics=statistics,
        levels=levels,
        level=level,
    )
    direct = design.drawn_directly()
    drawn = torch.cat(list(_truths(design))) if direct is None else direct
    y, parts = design.measure(drawn, design.truth_seeds), []
    for part in design.batches:
        run = sampler.run(
            design.target(y[part.start : part.stop]), design.seeds(part.start, len(part))
        )
        parts.append(run.x.reshape(len(part), design.samples, *prior.space.shape))
        advance(part.stop, simulations)
    return concluded(design, drawn, y, torch.cat(parts), run.cost)


def _truths(design: Design) -> Iterator[Tensor]:
    for start in range(0, design.simulations, design.batch):
        yield design.truths.sample(design.prior, design.truth_seeds[start : start + design.batch])
