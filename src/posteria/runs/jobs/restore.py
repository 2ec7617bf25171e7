"""Restore a signal from a partial measurement: what is prepared, and what is made of the samples."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, expect
from ...core.space import AT_ONCE, few
from ...diffusion.denoiser import Denoiser
from ...latent import decoder_of, undecoded
from ...likelihood import GaussianLikelihood
from ...modalities import (
    Degradation,
    Figure,
    Given,
    Modality,
    Outcome,
    Signal,
    Source,
    Wanted,
    modality_of,
)
from ...operators import Operator
from ...priors.card import Card
from ...priors.load import card_of
from ...target import Posterior
from ..engine import Drawn, Method
from ..job import Job
from ..report import Page
from ..request import Restore
from ..results import Results, divergence, plural, shown, usable
from ..settings import member_of, sampler_of
from ..store import hashes_of
from .certify import stated
from .restored import Restored


@dataclass(frozen=True)
class Restoration(Job):
    """A restoration that is ready to run.

    Args:
        request: What is done.
        methods: The one sampler.
        modality: Of the signal.
        degradation: What was measured, and how.
        truth: The signal that the measurement was simulated from.
        signal: The input.
        said: What was given and what was chosen, in sentences; the first says what the measurement is.
    """

    numbers: ClassVar[type[Results]] = Restored
    request: Restore
    modality: Modality
    degradation: Degradation
    truth: Tensor | None
    signal: Signal
    said: list[str]

    @property
    def name(self) -> str:
        """Of the input."""
        return self.signal.name

    @property
    def std(self) -> float:
        """Of the noise."""
        return float(expect(self.target.likelihood, GaussianLikelihood, by=self).std)

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
        return self.said

    @property
    @override
    def volume(self) -> int:
        # Beside the samples: input and measurement, mean and standard deviation, pictures of a byte a number, and the
        # input with each of them in place.
        numbers, count = self.target.space.size, self.request.samples
        file = 0 if self.truth is not None else self.modality.volume(self.signal)
        return super().volume + numbers * (16 + count + 4) + file * (count + 1)

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
        std = x.std(0) if len(x) > 1 and bool(good.all()) else None
        y, likelihood = self.target.y.cpu(), GaussianLikelihood(self.operator, self.std)
        off = [likelihood.misfit(y, part).double().square().mean(-1) for part in few(x[good])]
        residual = torch.cat(off).sqrt()
        of_mean = self._metrics(x.mean(0, keepdim=True), good.all(0, keepdim=True))
        return Restored(
            diverged=divergence(x),
            sigma=self.std,
            residual=_spaced(residual, good),
            metrics=self._metrics(x, good),
            metrics_mean={name: values[0] for name, values in of_mean.items()},
            std=None if std is None else std.mean().item(),
            uncertainty=None if std is None else self.modality.uncertainty(x, self.operator),
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
            self.std,
            None if self.truth is None else self.truth.cpu(),
        )
        power = "" if request.weight == 1 else f" to the power {request.weight:g}"
        label = request.given and f" with {request.given}{power}"
        options = [f"{name} {value}" for name, value in request.options.items()]
        return Page(
            title=self.title,
            intro=[
                *self.notes,
                f"{plural(request.samples, 'sample')} under the prior {request.prior}{label}: each is one answer that "
                "agrees with the measurement. What they share can be relied on as far as the prior can; where they "
                "differ, the measurement does not say.",
                expect(results, Restored, by=self).plain(),
            ],
            figures=chain(self.modality.figures(outcome), self._restored(outcome.samples)),
            facts={
                "task": ", ".join([request.task, *options]),
                "noise level": self.modality.noise(self.std),
                "input": f"{self.name}, {'clean' if request.simulate else 'the measurement'}",
                **{f"SHA-256 of {name}": value[:16] for name, value in request.hashes.items()},
            },
            code=[request.sampler],
        )

    def _restored(self, x: Tensor) -> Iterator[Figure]:
        """The file that was given, with the mean of the samples and with each of them in place."""
        if self.truth is not None:
            return
        for name, each in chain([("mean", x.mean(0))], zip(self.request.seeds, x, strict=True)):
            what = "the mean of the samples" if name == "mean" else f"sample {name}"
            about = f"{self.name} with {what} {self.modality.written}"
            made = self.modality.write(str(name), each, self.signal, self.operator)
            yield from (Figure(f"restored/{file}", data, about) for file, data in made.items())


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
    asked, request = request, request.named()
    named, card = sampler_of(request, asked), card_of(request.prior)
    wanted = _wanted(request, card)
    if card.reader == "local":
        request = _sized(request, request.size or wanted.size, card)
    member, origin = member_of(request, card)
    seed = request.seed if request.data_seed is None else request.data_seed
    given = replace(wanted, card=origin.card).read(member, request.sigma, seed)
    degradation, path = given.degradation, str(wanted.source.path)
    # What no option names was in the input itself.
    files = {name: request.options.get(name, path) for name in degradation.arrays}
    request = replace(
        request,
        input=path,
        task=wanted.task,
        options={**degradation.options, **files},
        data_seed=seed,
        sigma=float(given.likelihood.std),
    )
    said = [_statement(asked, request, given), *given.signal.said, *degradation.said]
    found = {**hashes_of(given.read), "prior": origin.weights}
    said += _lost(member, given)
    target = Posterior(member, given.likelihood, given.y)
    sampler, why = named(target)
    sampler.check(target, request.seeds)
    settled = request.settled(sampler).identified(found)
    said += [f"Sampler: {why}."] if why else []
    method = {"samples": Method(sampler, target, request.seeds)}
    return Restoration(
        settled, method, given.modality, degradation, given.truth, given.signal, said
    )


def _wanted(request: Restore, card: Card) -> Wanted:
    """What is read: the input, or as a demonstration the example of a prior."""
    if request.input is None and not card.examples:
        raise InputError(f"The prior {card.name!r} ships with no example; name a file to restore.")
    path = card.examples[0] if request.input is None else Path(request.input)
    source = Source(path, fit=request.fit, simulate=request.simulate)
    task = request.task
    if request.input is None and not task:
        task = next(iter(modality_of(None, request.prior, card).tasks))
    return Wanted(card, request.prior, source, task, request.options)


def _sized(request: Restore, size: tuple[int, ...] | None, card: Card) -> Restore:
    """The request with the size of its signal, of which large ones are drawn one by one."""
    if size is None:
        return request
    few_enough = max(1, AT_ONCE // math.prod((*(card.shape[:1] or (3,)), *size)))
    usual = few_enough if few_enough < request.batch or request.chunk else None
    chunk = request.chunk if isinstance(request.chunk, int) else usual
    return replace(request, size=size, chunk=chunk)


def _lost(member: Denoiser, given: Given) -> list[str]:
    """What an autoencoder alone takes from the truth, where that is known."""
    decoder = decoder_of(member)
    if decoder is None or given.truth is None or not decoder.encodes:
        return []
    truth = given.truth[None].to(decoder.codomain.device, decoder.codomain.dtype)
    off = float((decoder(decoder.encode(truth)) - truth).square().mean().sqrt())
    return [
        f"Its autoencoder alone, encoding and decoding {given.signal.name}, is off by {given.modality.noise(off)}."
    ]


def _statement(asked: Restore, settled: Restore, given: Given) -> str:
    """What the measurement is."""
    name, modality = given.signal.name, given.modality
    options = ", ".join(f"{key} {value}" for key, value in settled.options.items())
    task = f"{settled.task} ({options})" if options else settled.task
    estimate = ", as estimated from it" if given.estimated else ""
    how = f"{task}, with noise of standard deviation {modality.noise(given.std)}{estimate}"
    if asked.input is None:
        return (
            f"A demonstration, since no INPUT was given: the measurement was simulated from {name}, which "
            f"comes with the prior {settled.prior}: {how}."
        )
    if settled.simulate:
        return f"The measurement was simulated from {name}: {how}."
    return (
        f"{name} is taken as the measurement: {how}. "
        f"To degrade a clean {modality.noun} first, add --simulate."
    )
