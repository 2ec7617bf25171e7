"""Networks as denoisers: every usual parametrisation, in the coordinate `x = x_0 + sigma * noise`."""

import abc
import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.errors import CapabilityError, InputError
from ..core.space import Space
from .betas import Betas, LinearBetas
from .denoiser import Condition, Conditional, Denoiser, Label

Level = float | Tensor


def _hypot(a: float, sigma: Level) -> Level:
    return (sigma**2 + a**2).sqrt() if isinstance(sigma, Tensor) else math.hypot(a, sigma)


@dataclass(frozen=True)
class Parametrisation(abc.ABC):
    """How a network F makes a denoiser: `D(x, sigma) = skip * x + out * F(scale * x, time)`."""

    @abc.abstractmethod
    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """`scale`, `skip` and `out` at a noise level."""

    @abc.abstractmethod
    def time(self, sigma: Level) -> Level:
        """What the network is told of the noise level."""


@dataclass(frozen=True)
class Discrete(Parametrisation):
    """A network trained on a DDPM table, which is told the index of its training step.

    Args:
        betas: The table of the checkpoint.
        shift: Added to the index. 0 tells the network the step at which it saw this noise level. 1
            reproduces the official code of MGPS and MGDM, whose table has a 1 in front, so that
            the network is told the step after it.
        whole: Round the index to a whole number, for a network with a table of embeddings;
            sinusoidal embeddings take any real number.
    """

    betas: Betas = field(default_factory=LinearBetas)
    shift: int = 0
    whole: bool = False

    def time(self, sigma: Level) -> Level:
        """See the base class."""
        last = len(self.betas.sigmas) - 1
        index = self.betas.index(sigma)
        if isinstance(index, Tensor):
            index = (index + self.shift).clamp(0, last)
            return index.round() if self.whole else index
        index = min(max(index + self.shift, 0.0), float(last))
        return float(round(index)) if self.whole else index


@dataclass(frozen=True)
class Epsilon(Discrete):
    """The network predicts the noise: `x_0 = x - sigma * F`."""

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """See the base class."""
        return 1 / _hypot(1, sigma), 1.0, -sigma


@dataclass(frozen=True)
class Velocity(Discrete):
    """The network predicts `v = (noise - sigma * x_0) / sqrt(1 + sigma^2)` (arXiv:2202.00512)."""

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """See the base class."""
        root = _hypot(1, sigma)
        return 1 / root, 1 / root**2, -sigma / root


@dataclass(frozen=True)
class Clean(Discrete):
    """The network predicts the clean signal itself."""

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """See the base class."""
        return 1 / _hypot(1, sigma), 0.0, 1.0


@dataclass(frozen=True)
class FlowMatching(Parametrisation):
    """The network predicts `noise - x_0` at `x / (1 + sigma)` and `t = sigma / (1 + sigma)` (arXiv:2210.02747).

    Args:
        time_scale: The network is told `time_scale * t`; diffusers' networks want 1000.
    """

    time_scale: float = 1000.0

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """See the base class."""
        return 1 / (1 + sigma), 1 / (1 + sigma), -sigma / (1 + sigma)

    def time(self, sigma: Level) -> Level:
        """See the base class."""
        return self.time_scale * sigma / (1 + sigma)


@dataclass(frozen=True)
class EDM(Parametrisation):
    """EDM's preconditioning (Karras et al., 2022, arXiv:2206.00364), table 1.

    Args:
        sigma_data: Standard deviation of the data that the network was made for.
        sign: -1 for networks that predict with the opposite sign (`v_prediction` in diffusers).
    """

    sigma_data: float = 0.5
    sign: int = 1

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """See the base class."""
        root = _hypot(self.sigma_data, sigma)
        skip = self.sigma_data**2 / root**2
        return 1 / root, skip, self.sign * sigma * self.sigma_data / root

    def time(self, sigma: Level) -> Level:
        """See the base class."""
        if isinstance(sigma, Tensor):
            return sigma.clamp(min=1e-30).log() / 4
        return math.log(max(sigma, 1e-30)) / 4


class Network(Conditional):
    """Any network as a prior. Its weights are frozen and it is put in evaluation mode.

    Args:
        module: Called as `module(x, time)`, or as `module(x, time, label)` if it knows labels,
            with `x` as `[n, *event]` in the module's dtype, `time` as `[n]` and `label` as
            integers `[n]`. Outputs with more channels than `x` (a learned variance) are cut to the
            first ones.
        space: Event shape, and the dtype and device in which samplers work.
        parametrisation: What the network predicts and how it is told the noise level.
        labels: Number of classes that the network knows, 0 for none.
        null_label: The label that stands for "no label"; None if the network has no unconditional
            branch.
    """

    def __init__(
        self,
        module: nn.Module,
        space: Space,
        parametrisation: Parametrisation,
        *,
        labels: int = 0,
        null_label: int | None = None,
    ) -> None:
        self.module = module.to(space.device).eval().requires_grad_(False)
        self.space = space
        self.parametrisation = parametrisation
        self.labels = labels
        self.label = null_label
        weights = next((p for p in module.parameters() if p.is_floating_point()), None)
        self._dtype = space.dtype if weights is None else weights.dtype
        self._time_dtype = torch.float64 if self._dtype == torch.float64 else torch.float32

    def given(self, condition: Condition) -> Denoiser:
        """The network with its label set.

        Raises:
            CapabilityError: If the network knows no labels, or the condition is not a `Label`.
            InputError: If there is no such label.
        """
        if not self.labels or not isinstance(condition, Label):
            raise CapabilityError(
                f"This network cannot be given {condition!r}; it knows no such condition."
            )
        if not 0 <= condition.label < self.labels:
            raise InputError(
                f"The label is an integer from 0 to {self.labels - 1}; {condition.label} is not."
            )
        member = copy.copy(self)
        member.label = condition.label
        return member

    def unconditional(self) -> Denoiser:
        """See `Conditional`."""
        if self.labels and self.label is None:
            raise CapabilityError(
                "This network has no unconditional branch; use prior.given(Label(k))."
            )
        return self

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """See `Denoiser`."""
        self.unconditional()
        batch = self.space.batch(x)
        if isinstance(sigma, Tensor):
            sigma = sigma.double().expand(batch)
        scale, skip, out = (
            self.space.per_sample(c.to(x.dtype)) if isinstance(c, Tensor) else c
            for c in self.parametrisation.coefficients(sigma)
        )
        return skip * x + out * self._evaluate(scale * x, self.parametrisation.time(sigma), batch)

    def _evaluate(self, x: Tensor, time: Level, batch: torch.Size) -> Tensor:
        flat = x.reshape(-1, *self.space.shape).to(self._dtype)
        if isinstance(time, Tensor):
            times = time.reshape(-1).to(flat.device, self._time_dtype)
        else:
            times = torch.full((len(flat),), time, dtype=self._time_dtype, device=flat.device)
        if self.labels:
            label = torch.full((len(flat),), self.label or 0, dtype=torch.long, device=flat.device)
            output = self.module(flat, times, label)
        else:
            output = self.module(flat, times)
        if self.space.shape and output.shape[1] > self.space.shape[0]:
            output = output[:, : self.space.shape[0]]
        return torch.as_tensor(output).to(x.dtype).reshape(*batch, *self.space.shape)
