"""What a run is given of a signal: a measurement that is read, or one that is simulated from a clean signal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from ..core.rng import Rng
from ..diffusion.denoiser import Denoiser
from ..latent import signals_of
from ..likelihood import GaussianLikelihood
from ..priors.card import Card
from .arrays import is_array
from .base import Modality, Signal
from .registry import modality_of
from .tasks import Degradation, Source

# A noise level by which the range of a measurement is judged before its own is estimated.
LIKELY = 0.1


@dataclass(frozen=True)
class Given:
    """What was read and measured.

    Args:
        modality: Of the signal.
        signal: The input.
        degradation: How it was measured.
        likelihood: With the noise of `y`.
        y: The measurement.
        truth: What it was simulated from.
        std: Of the noise of the file, which may be in several entries of `y`.
        estimated: Whether that was estimated.
    """

    modality: Modality
    signal: Signal
    degradation: Degradation
    likelihood: GaussianLikelihood
    y: Tensor
    truth: Tensor | None
    std: float
    estimated: bool

    @property
    def read(self) -> dict[str, Tensor]:
        """What was read from files, by which a run knows it again."""
        known = {"input": self.y if self.truth is None else self.truth}
        return known | dict(self.degradation.arrays)


@dataclass(frozen=True)
class Wanted:
    """What is to be read for a prior, and measured; known before that is loaded.

    Args:
        card: Of the prior.
        prior: Its name, for errors.
        source: The file.
        task: Name of the measurement.
        options: Of the task; see `Modality.degradation`.
    """

    card: Card
    prior: str
    source: Source
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, ...] | None:
        """Height and width, or the length, of the signal; None if the file has none."""
        modality, source = modality_of(None, self.prior, self.card), self.source
        task = modality.task(self.task, source.path.name)
        return modality.size_of(source.path, task, self.options, source.simulate)

    def read(self, prior: Denoiser, sigma: float | Literal["usual"] | None, seed: int) -> Given:
        """Read it, and measure it where it is clean.

        Args:
            prior: Which draws such signals, or latents of them.
            sigma: Standard deviation of the noise; None: estimated from the measurement; `usual`: see `Modality.usual`,
                but estimated from a measurement that is noisy and nothing else.
            seed: Of simulated noise and of what the task draws.

        Raises:
            CapabilityError: If no kind of data has signals of that shape.
            InputError: If a file cannot be read, or the task or an option means nothing.
        """
        space, source = signals_of(prior), self.source
        modality = modality_of(space, self.prior, self.card)
        path = source.path
        if sigma == "usual":
            noisy = modality.task(self.task, path.name).noisy and not source.simulate
            sigma = None if noisy else modality.usual(self.task, path.name)
        std, fit = float(LIKELY if sigma is None else sigma), source.fit and not is_array(path)
        degradation = modality.degradation(
            self.task, space.shape, self.options, seed=seed, source=replace(source, fit=fit)
        )
        operator = degradation.operator
        if source.simulate:
            likelihood = GaussianLikelihood(operator, std=std)
            taker = f"the prior {self.prior!r} takes"
            signal = modality.read(path, space.shape, taker=taker, fit=fit)
            y = likelihood.sample(signal.x[None], Rng([seed], stream=1))[0]
            return Given(modality, signal, degradation, likelihood, y, signal.x, std, False)
        taker = f"the task {self.task!r} on the prior {self.prior!r} measures"
        signal = modality.read_measurement(path, degradation, taker=taker, std=std, fit=source.fit)
        if sigma is None:
            GaussianLikelihood(operator, std=std).check(signal.x)
            std = modality.estimated(signal.x, degradation)
        signal, each = modality.independent(signal, degradation, std, seed)
        likelihood = GaussianLikelihood(operator, std=each)
        y = signal.x
        return Given(modality, signal, degradation, likelihood, y, None, std, sigma is None)
