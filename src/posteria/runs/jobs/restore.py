"""Restore a signal from a partial measurement: what is prepared, and what is made of the samples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, expect
from ...core.meter import Cost
from ...core.rng import Rng
from ...diffusion.denoiser import Denoiser
from ...latent import signals_of, undecoded
from ...likelihood import GaussianLikelihood
from ...metrics.registry import METRICS
from ...modalities import Degradation, Modality, Outcome, modality_of
from ...modalities.arrays import is_array
from ...modalities.image.files import picture_size
from ...operators import Operator
from ...priors import SHIPPED, prior_sha256
from ...priors.load import card_of
from ...samplers.diagnostics import Diagnostics
from ...target import Posterior, Tilted
from ..engine import Drawn, Method
from ..job import Job, repeat as repeat_of, run
from ..report import Page
from ..request import Restore
from ..results import Results, count, divergence, shown, spread, usable
from ..settings import condition_of, prior_of, sampler_of
from ..store import hashes_of
from .certify import Stated, stated

__all__ = ["Request", "Restoration", "Restored", "prepare", "repeat", "run"]

Request = Restore
repeat = partial(repeat_of, Restore)


@dataclass(frozen=True, kw_only=True)
class Restored(Results):
    """The numbers of a restoration; None in place of a number that is not finite.

    Args:
        sigma: The noise level.
        residual: Root mean square of `(y - A(x)) / sigma` of each sample; near 1 where the sample
            explains the measurement.
        metrics: Of each sample against the truth, by name; empty where it is not known.
        metrics_mean: Of the mean of the samples.
        std: The mean over entries of the standard deviation of the samples, in data units; None for
            one sample.
        cost: Of a sample.
        seconds: Of sampling, for all samples, over all attempts.
        shared: Samples that a population would give for its cost; 1 without populations.
        certificate: What a certificate says of the sampler, if a folder was named.
        diagnostics: What the samples say of themselves.
    """

    sigma: float
    residual: list[float | None]
    metrics: dict[str, list[float | None]]
    metrics_mean: dict[str, float | None]
    std: float | None
    cost: Cost
    seconds: float
    shared: int = 1
    certificate: Stated | None = None
    diagnostics: Diagnostics | None = None

    @override
    def table(self) -> tuple[list[str], list[list[str]]]:
        expected = "" if self.diagnostics is None else self.diagnostics.about_residual()
        residual = f"{spread(self.residual, 3)} {expected}".strip()
        rows = [[f"residual / sigma (sigma = {self.sigma:g})", residual]]
        for name, values in self.metrics.items():
            metric = METRICS[name]
            of_mean = [self.metrics_mean[name]]
            rows += [
                [f"{metric.label} of the samples", spread(values, metric.digits, metric.unit)],
                [f"{metric.label} of their mean", spread(of_mean, metric.digits, metric.unit)],
            ]
        if self.std is not None:
            rows.append(["standard deviation, mean over entries", f"{self.std:.3f}"])
        rows += [
            ["evaluations of the prior, per sample", self._evaluations()],
            ["applications of the operator, per sample", count(self.cost.operator) or "0"],
            ["seconds of sampling", f"{self.seconds:.1f}"],
        ]
        if self.cost.memory:
            rows.append(["peak memory", f"{self.cost.memory:.0f} MiB"])
        if self.diagnostics is not None:
            rows += self.diagnostics.rows()
        if self.certificate is not None:
            rows.append(["certificate of the sampler", self.certificate.words])
        return [], rows

    def _evaluations(self) -> str:
        def of(samples: int) -> str:
            forward, backward = self.cost.forward * samples, self.cost.backward * samples
            return f"{count(forward) or '0'} + {count(backward) or '0'} vjps"

        if self.shared == 1:
            return of(1)
        return (
            f"{of(1)} (its share of a population of {self.shared}, which costs {of(self.shared)})"
        )

    @override
    def warnings(self) -> list[str]:
        known = [value for value in self.residual if value is not None]
        middle = float(np.mean(known)) if known else 1.0
        found = [*super().warnings(), *(self.diagnostics.warnings() if self.diagnostics else ())]
        # Few measurements have residuals far from 1 by chance.
        expected = (self.diagnostics and self.diagnostics.expected) or (1.0, 1.0)
        if min(0.7, expected[0]) <= middle <= max(1.3, expected[1]):
            return found
        side, fault = (
            ("farther from", "do not explain it")
            if middle > 1.3
            else ("nearer to", "fit its noise")
        )
        return [
            *found,
            f"The samples are {side} the measurement than its noise allows (residual {middle:.3f} sigma): "
            f"they {fault}. Try another sampler, more steps, the noise level that it really has, or a prior "
            "that knows such signals.",
        ]


@dataclass(frozen=True)
class Restoration(Job):
    """A restoration that is ready to run.

    Args:
        request: What is done.
        methods: The one sampler.
        modality: Of the signal.
        degradation: What was measured, and how.
        truth: The signal that the measurement was simulated from.
        name: Of the input.
        why: Why the sampler was chosen, if it was.
    """

    numbers: ClassVar[type[Results]] = Restored
    request: Restore
    modality: Modality
    degradation: Degradation
    truth: Tensor | None
    name: str
    why: str | None

    @property
    def target(self) -> Posterior:
        """What is sampled."""
        return expect(self.methods["samples"].target, Posterior, by=self)

    @property
    def operator(self) -> Operator:
        """What was measured."""
        return undecoded(expect(self.target.likelihood, GaussianLikelihood, by=self).operator)

    @property
    @override
    def title(self) -> str:
        return f"{self.request.task} of {self.name}"

    @property
    @override
    def notes(self) -> list[str]:
        notes = [f"Sampler: {self.why}."] if self.why else []
        if self.truth is not None:
            options = ", ".join(f"{key} {value}" for key, value in self.request.options.items())
            task = f"{self.request.task} ({options})" if options else self.request.task
            notes.append(
                f"The measurement was simulated from {self.name}: {task}, with added noise of standard "
                f"deviation {self.request.sigma:g}. If {self.name} is the measurement itself, say "
                "--input-kind measurement."
            )
        return notes

    @property
    @override
    def given(self) -> dict[str, np.ndarray]:
        arrays = {"measurement": self.target.y, **self.degradation.arrays}
        arrays |= {} if self.truth is None else {"truth": self.truth}
        return {name: value.cpu().numpy() for name, value in arrays.items()}

    @override
    def results(self, drawn: Mapping[str, Drawn]) -> Restored:
        x = drawn["samples"].x
        good = usable(x)
        all_good, several = bool(good.all()), len(x) > 1
        z = (self.target.y.cpu() - self.operator(x[good])).double() / self.request.sigma
        residual = self.operator.codomain.flatten(z).square().mean(-1).sqrt()
        metrics, of_mean = (
            self._metrics(x, good),
            self._metrics(x.mean(0, keepdim=True), good.all(0, keepdim=True)),
        )
        return Restored(
            diverged=divergence(x),
            sigma=self.request.sigma,
            residual=_spaced(residual, good),
            metrics=metrics,
            metrics_mean={name: values[0] for name, values in of_mean.items()},
            std=x.std(0).mean().item() if several and all_good else None,
            cost=drawn["samples"].cost,
            seconds=drawn["samples"].meter.seconds,
            shared=self.methods["samples"].sampler.shared,
            certificate=stated(self.request),
            diagnostics=drawn["samples"].diagnostics(self.methods["samples"]),
        )

    @override
    def current(self, results: Results) -> bool:
        return expect(results, Restored, by=self).certificate == stated(self.request)

    def _metrics(self, x: Tensor, good: Tensor) -> dict[str, list[float | None]]:
        """The metrics of good samples against the truth, if that is known."""
        if self.truth is None:
            return {}
        found = self.modality.metrics(self.truth.cpu(), torch.where(_wide(good, x), x, 0.0))
        return {name: _spaced(values[good], good) for name, values in found.items()}

    @override
    def arrays(self, drawn: Mapping[str, Drawn]) -> dict[str, np.ndarray]:
        x = drawn["samples"].x
        arrays = {
            "seeds": torch.tensor(list(self.request.seeds)),
            "measurement": self.target.y.cpu(),
            "mean": x.mean(0),
            "std": x.std(0) if len(x) > 1 else torch.zeros_like(x[0]),
            **({} if self.truth is None else {"truth": self.truth.cpu()}),
        }
        return {name: value.numpy() for name, value in arrays.items()}

    @override
    def page(self, drawn: Mapping[str, Drawn], results: Results) -> Page:
        request = self.request
        outcome = Outcome(
            shown(drawn["samples"].x),
            request.seeds,
            self.operator,
            self.target.y.cpu(),
            request.sigma,
            None if self.truth is None else self.truth.cpu(),
        )
        power = "" if request.weight == 1 else f" to the power {request.weight:g}"
        label = request.given and f" with {request.given}{power}"
        options = [f"{name} {value}" for name, value in request.options.items()]
        return Page(
            title=self.title,
            intro=[
                f"Samples of the signals that are consistent with the measurement under the prior "
                f"{request.prior}{label}: seeds {request.seeds[0]} to {request.seeds[-1]}.",
                *self.notes,
            ],
            figures=self.modality.figures(outcome),
            facts={
                "task": ", ".join([request.task, *options]),
                "noise level": f"{request.sigma} in data units",
                "input": f"{self.name}, {request.input_kind}",
                **{f"SHA-256 of {name}": value[:16] for name, value in request.hashes.items()},
            },
            code=[request.sampler],
        )


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """One value for each sample `[n]`, as wide as the samples `[n, *event]`."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _spaced(values: Tensor, good: Tensor) -> list[float | None]:
    """One value for each sample, None for those that are not good."""
    known = iter(values.tolist())
    return [next(known) if each else None for each in good.tolist()]


def prepare(request: Restore) -> Restoration:
    """Check a request and load what it needs.

    Raises:
        PosteriaError: With a sentence on what is wrong and what to do.
    """
    request.check()
    named = sampler_of(request)
    request = _sized(request)
    prior = prior_of(request)
    signals = signals_of(prior)
    modality = modality_of(signals, request.prior)
    settled, given = _read(request, modality, signals.shape)
    condition = condition_of(request)
    member: Denoiser = prior
    if condition is not None:
        one = request.weight == 1
        member = prior.given(condition) if one else Tilted(prior, condition, request.weight)
    target = Posterior(member, given.likelihood, given.y)
    sampler, why = named(target)
    sampler.check(target, request.seeds)
    hashes = {**given.hashes(), "prior": prior_sha256(request.prior)}
    settled = settled.settled(sampler).identified(hashes)
    method = {"samples": Method(sampler, target, request.seeds)}
    return Restoration(settled, method, modality, given.degradation, given.truth, given.name, why)


@dataclass(frozen=True)
class _Given:
    """What was read and measured.

    Args:
        name: Of the input.
        degradation: How it was measured.
        likelihood: With its noise.
        y: The measurement.
        truth: What it was simulated from.
    """

    name: str
    degradation: Degradation
    likelihood: GaussianLikelihood
    y: Tensor
    truth: Tensor | None

    def hashes(self) -> dict[str, str]:
        """Of what was read."""
        read = {"input": self.y if self.truth is None else self.truth, **self.degradation.arrays}
        return hashes_of(read)


def _sized(request: Restore) -> Restore:
    """The request with the size of its picture, if its prior takes any and it says none."""
    card = card_of(request.prior)
    if card.shape or card.where != "package" or request.size is not None:
        return request
    path = Path(request.input) if request.input is not None else _example(request.prior)
    if is_array(path) or request.input_kind == "measurement":
        return request
    return replace(request, size=picture_size(path))


def _read(request: Restore, modality: Modality, shape: tuple[int, ...]) -> tuple[Restore, _Given]:
    """What is given, and the request with what was left open about it."""
    path = Path(request.input) if request.input is not None else _example(request.prior)
    kind = request.input_kind or ("measurement" if is_array(path) else "clean")
    seed = request.seed if request.data_seed is None else request.data_seed
    read = partial(modality.read, path, shape, taker=f"the prior {request.prior!r} takes")
    fitted = read(fit=True) if request.fit and not is_array(path) else None
    degradation = modality.degradation(
        request.task, shape, request.options, seed=seed, like=fitted
    )
    likelihood = GaussianLikelihood(degradation.operator, std=request.sigma)
    if kind == "clean":
        signal = fitted or read()
        y = likelihood.sample(signal.x[None], Rng([seed], stream=1))[0]
        given = _Given(signal.name, degradation, likelihood, y, signal.x)
    else:
        taker = f"the task {request.task!r} on the prior {request.prior!r} measures"
        signal = modality.read_measurement(
            path, degradation, taker=taker, std=request.sigma, fit=request.fit
        )
        given = _Given(signal.name, degradation, likelihood, signal.x, None)
    files = {name: request.options[name] for name in degradation.arrays}
    options = {**degradation.options, **files}
    settled = replace(request, input=str(path), input_kind=kind, options=options, data_seed=seed)
    return settled, given


def _example(prior: str) -> Path:
    if prior not in SHIPPED:
        raise InputError(f"The prior {prior!r} ships with no picture; name a file to restore.")
    return SHIPPED[prior].examples[0]
