"""Certify a sampler by simulations: what is prepared, and what is made of the ranks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...certification.certificate import LEGEND, LIMITS, MOST, Certificate
from ...certification.figures import coverage, histogram
from ...certification.simulate import Design, check_numbers, concluded
from ...core.errors import CapabilityError, InputError, expect
from ...core.meter import Meter
from ...core.record import from_json
from ...diffusion.schedule import Karras
from ...latent import decoder_of
from ...likelihood import GaussianLikelihood
from ...modalities import Degradation, Modality, modality_of
from ...operators import Inpainting
from ...priors.load import card_of
from ...samplers import Unconditional
from ...target import Posterior
from ..engine import Drawn, Method
from ..job import First, Job, read_record
from ..report import Page, Plot
from ..request import USUAL, Certify, Restore
from ..results import Results, count, divergence, duration, shown
from ..settings import member_of, sampler_of
from ..store import Store, hashes_of

# Simulations that a page shows, and levels of a picture.
SHOWN, GREYS = 12, 256


@dataclass(frozen=True, kw_only=True)
class Certified(Results):
    """The numbers of a certificate.

    Args:
        certificate: What the simulations say.
        verdict: The same in a sentence.
        passes: Whether no test rejects.
        asked: The statistics that were named; empty for all.
        levels: See the request.
        seconds: Of sampling, over all attempts.
    """

    certificate: Certificate
    verdict: str
    passes: bool
    asked: tuple[str, ...]
    levels: int
    seconds: float

    @override
    def table(self) -> tuple[list[str], list[list[str]]]:
        c = self.certificate
        rows = [["verdict", self.verdict]]
        for name, curve in c.curves.items():
            rows += [
                [f"{100 * level:.0f} % intervals of the {name} hold", curve.stated(level)]
                for level in (0.5, MOST)
            ]
        if c.residual is not None:
            r = c.residual
            rows.append([
                "residual / sigma",
                f"{r.samples:.3f} (exact samples: {r.low:.3f} to {r.high:.3f})",
            ])
        rows += [
            [
                f"ranks of {s.name}",
                f"shift {s.shift:+.2f}, width {s.width:.2f}, p {min(s.adjusted):.2g}",
            ]
            for s in c.worst()[:4]
        ]
        forward, backward = (count(each) or "0" for each in (c.cost.forward, c.cost.backward))
        return [], [
            *rows,
            ["simulations, samples of each", f"{c.simulations}, {c.samples}"],
            ["truths", c.truths],
            ["evaluations of the prior, per sample", f"{forward} + {backward} vjps"],
            ["seconds of sampling", f"{self.seconds:.1f}"],
        ]

    @override
    def legend(self) -> list[str]:
        return [*LEGEND, self.certificate.sees(), LIMITS]


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a certificate says of the sampler of another run.

    Args:
        folder: Where it was looked for, or found.
        verdict: In a sentence; None if none of them is of that prior, task, noise and sampler.
        passes: Whether the sampler passed.
        simulations: Of the certificate.
    """

    folder: str
    verdict: str | None = None
    passes: bool = False
    simulations: int = 0

    @property
    def words(self) -> str:
        """As a table has it."""
        if self.verdict is None:
            return f"none in {self.folder} is of this prior, task, noise and sampler"
        return f"{self.verdict} ({self.simulations} simulations, {self.folder})"


def stated(request: Restore) -> Stated | None:
    """What the certificates in a folder, or one below it, say of a run; the one of most simulations counts.

    None if the request names no folder.
    """
    if request.certificate is None:
        return None
    folder, wanted = Path(request.certificate), request.posterior()
    found = [Stated(folder=str(folder))]
    for path in sorted([*folder.glob("run.json"), *folder.glob("*/run.json")]):
        try:
            record, theirs = read_record(Store(path.parent), path.name, Certify) or (None, None)
            if record and theirs and theirs.posterior() == wanted:
                results = from_json(Certified, record.results)
                found.append(
                    Stated(
                        folder=str(path.parent),
                        verdict=results.verdict,
                        passes=results.passes,
                        simulations=results.certificate.simulations,
                    )
                )
        except InputError:
            # Of another command, another version, or not finished.
            continue
    return max(found, key=lambda each: each.simulations)


@dataclass(frozen=True)
class Certification(Job):
    """Simulations that are ready to run.

    Args:
        request: What is done.
        methods: Each batch of simulations and of truths, once there are truths.
        modality: Of the signals.
        degradation: How they are measured.
        design: What is simulated.
        why: Why the sampler was chosen, if it was.
        truths: The truths, once they are drawn.
        y: Their measurements.
    """

    numbers: ClassVar[type[Results]] = Certified
    request: Certify
    modality: Modality
    degradation: Degradation
    design: Design
    why: str | None
    truths: Tensor | None = None
    y: Tensor | None = None

    @property
    @override
    def title(self) -> str:
        name = self.request.sampler.partition("(")[0]
        return f"certificate of {name}, {self.request.task} on {self.request.prior}"

    @property
    @override
    def notes(self) -> list[str]:
        return [f"Sampler: {self.why}."] if self.why else []

    @property
    @override
    def given(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.degradation.arrays.items()}

    @override
    def forecast(self) -> str:
        design = replace(self.design, batch=self.request.at_once)
        part, space = design.batches[0], design.prior.space
        seeds = range(len(part))
        y = design.measure(space.zeros(len(part)), seeds)
        sampler, moves = design.sampler, len(design.sampler.moves())
        start, marks = time.perf_counter(), []
        for _ in sampler.iterate(design.target(y), design.seeds(0, len(part))):
            marks.append(time.perf_counter())
            if len(marks) == 2:
                break
        # The first step may measure the prior or plan products; the others are like the second.
        step = marks[-1] - (marks[-2] if len(marks) > 1 else start)
        seconds = len(design.batches) * moves * step
        batches = len(design.batches)
        many = "1 batch" if batches == 1 else f"{batches} batches"
        return (
            f"{design.simulations} simulations of {design.samples} samples: about {duration(seconds)} "
            f"({many} of {moves} steps; a step took {step:.2g} s), and the truths before."
        )

    @override
    def fitted(self, store: Store, first: First) -> Self:
        design = replace(self.design, batch=self.request.at_once)
        x = design.drawn_directly()
        # A truth is drawn in the batch in which it is sampled, so that a run that grows keeps both or neither.
        methods = {
            f"truths-{part.start}": Method(
                design.truths,
                design.prior,
                [design.truth_seeds[i] for i in part],
                f"truths-{part.start}",
            )
            for part in (design.batches if x is None else ())
        }
        if x is None:
            parts = [each.x for each in first(methods).values()]
            x = torch.cat(parts).to(design.prior.space.device)
        y = design.measure(x, design.truth_seeds)
        batches = {
            f"simulations-{part.start}": Method(
                design.sampler,
                design.target(y[part.start : part.stop]),
                design.seeds(part.start, len(part)),
                f"simulations-{part.start}",
            )
            for part in design.batches
        }
        # Batches come first, so that they keep their numbers when there are more of them.
        return replace(
            self, methods={**batches, **methods}, design=design, truths=x.cpu(), y=y.cpu()
        )

    def _drawn(self, drawn: Mapping[str, Drawn]) -> tuple[Tensor, Tensor]:
        """Truths `[simulations, *event]` and samples `[simulations, samples, *event]`."""
        truths, x = expect(self.truths, Tensor, by=self), [each.x for each in _sampled(drawn)]
        return truths, torch.cat(x).reshape(-1, self.design.samples, *truths.shape[1:])

    @override
    def results(self, drawn: Mapping[str, Drawn]) -> Certified:
        truths, x = self._drawn(drawn)
        batches = _sampled(drawn)
        meter = sum((each.meter for each in batches), Meter())
        cost = meter.cost(sum(each.worked for each in batches))
        y = expect(self.y, Tensor, by=self)
        certificate = concluded(self.design, truths, y, x, cost)
        return Certified(
            diverged=divergence(x.flatten(0, 1)),
            certificate=certificate,
            verdict=certificate.verdict,
            passes=certificate.passes,
            asked=self.request.statistics,
            levels=self.design.levels,
            seconds=meter.seconds,
        )

    @override
    def current(self, results: Results) -> bool:
        found = expect(results, Certified, by=self)
        return (found.asked, found.levels) == (self.request.statistics, self.design.levels)

    @override
    def arrays(self, drawn: Mapping[str, Drawn]) -> dict[str, np.ndarray]:
        return {
            "truths": expect(self.truths, Tensor, by=self).numpy(),
            "measurements": expect(self.y, Tensor, by=self).numpy(),
            "seeds": np.array(self.design.seeds(0, self.design.simulations)),
        }

    def _seen(self) -> dict[str, Tensor]:
        """The first measurements as signals, for a page; empty where they are of another kind."""
        y, operator = expect(self.y, Tensor, by=self)[:SHOWN], self.degradation.operator
        if isinstance(operator, Inpainting):
            return {"measured": shown(operator.adjoint(y.to(operator.domain.device)).cpu())}
        given, seen = operator.domain.shape, operator.codomain.shape
        if len(seen) != len(given) or seen[0] != given[0]:
            return {}
        for axis, (whole, part) in enumerate(zip(given, seen, strict=True), 1):
            y = y.repeat_interleave(whole // part, axis) if whole % part == 0 else y
        return {"measured": shown(y)}

    @override
    def page(self, drawn: Mapping[str, Drawn], results: Results) -> Page:
        request, c = self.request, expect(results, Certified, by=self).certificate
        truths, x = (shown(each[:SHOWN]) for each in self._drawn(drawn))
        rows = {
            "truth": truths,
            **self._seen(),
            "sample": x[:, 0],
            "another": x[:, 1],
            "mean": x.mean(1),
        }
        options = ", ".join(f"{name} {value}" for name, value in request.options.items())
        about = (
            "The first truths of the prior, their measurements where these are such signals too, two samples of each "
            f"posterior, and the mean of all {c.samples}."
        )
        label = "" if request.label is None else f" with label {request.label}"
        return Page(
            title=self.title,
            verdict=c.verdict[0].upper() + c.verdict[1:] + ".",
            intro=[
                f"{c.simulations} truths were drawn from the prior {request.prior}{label}, measured "
                f"({request.task}, noise {request.sigma:g}), and sampled {c.samples} times each. Among exact samples a "
                "truth has each rank with the same probability, whatever is ranked."
            ],
            figures=self.modality.compare("simulations", rows, about),
            facts={
                "task": ", ".join(filter(None, [request.task, options])),
                "noise level": f"{request.sigma} in data units",
                "ranked": ", ".join(request.statistics) or "all statistics",
                "rounded to": f"{self.design.levels} levels" if self.design.levels else "nothing",
                **{f"SHA-256 of {name}": value[:16] for name, value in request.hashes.items()},
            },
            code=[request.sampler],
            sections={
                "Coverage: share of central intervals that hold the truth, less their credibility": [
                    Plot(
                        coverage(c.curves),
                        "In percentage points, against the credibility. Below 0 intervals are too narrow, above it too "
                        "wide; bands: two standard errors.",
                    )
                ],
                "Ranks: within the grey where samples are exact, high ends where they are too near to each other; "
                "orange: rejected": [
                    Plot(
                        histogram(s, c.samples, c.level),
                        f"{s.name}: shift {s.shift:+.2f}, width {s.width:.2f}, p {min(s.adjusted):.2g}",
                    )
                    for s in c.worst()
                ],
            },
        )


def _sampled(drawn: Mapping[str, Drawn]) -> list[Drawn]:
    """The samples of each batch of simulations."""
    return [each for name, each in drawn.items() if name.startswith("simulations")]


def prepare(request: Certify) -> Certification:
    """Check a request and load what it needs.

    Raises:
        PosteriaError: With a sentence on what is wrong and what to do.
    """
    request.check()
    check_numbers(request.simulations, request.samples)
    named = sampler_of(request)
    prior, origin = member_of(request, card_of(request.prior))
    if decoder_of(prior) is not None:
        raise CapabilityError(
            f"A certificate ranks truths among samples of the signals that are measured; {request.prior} draws "
            "latents of them. Certify a prior of the signals themselves."
        )
    modality = modality_of(prior.space, request.prior, origin.card)
    shape = prior.space.shape
    seed = request.data_seed or 0
    degradation = modality.degradation(request.task, shape, request.options, seed=seed)
    usual = modality.usual(request.task, "the signal")
    std = usual if request.sigma == USUAL else float(request.sigma or 0)
    likelihood = GaussianLikelihood(degradation.operator, std=std)
    greys = GREYS if modality.name == "image" else 0
    # A measurement of nothing is enough to see whether a sampler suits.
    sampler, why = named(Posterior(prior, likelihood, degradation.operator(prior.space.zeros())))
    design = Design(
        sampler=sampler,
        prior=prior,
        likelihood=likelihood,
        simulations=request.simulations,
        samples=request.samples,
        seed=request.seed,
        truths=Unconditional(schedule=Karras(steps=request.truth_steps)),
        statistics=request.statistics or None,
        levels=greys if request.levels is None else request.levels,
    )
    files = {name: request.options[name] for name in degradation.arrays}
    settled = replace(
        request.settled(sampler),
        options={**degradation.options, **files},
        data_seed=seed,
        sigma=std,
    ).identified({**hashes_of(degradation.arrays), "prior": origin.weights})
    return Certification(settled, {}, modality, degradation, design, why)
