"""ScoreSDE: the measured part of the iterate is replaced by the noised measurement at every level."""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ...core.rng import Rng
from ...core.space import Space
from ...core.state import State
from ...diffusion.kernel import reverse_step
from ...diffusion.schedule import Karras, LogLinear, Schedule
from ...linear_gaussian import SpectralProblem, spectral_problem
from ...operators.base import SVDOperator
from ...target import Posterior
from ..posterior import PosteriorSampler


class _Known(NamedTuple):
    """What is known of an iterate at one level, in the operator's basis.

    Values are `y / s`, and `spread` the noise that takes them to the level; directions are replaced, or
    released where they are measured with a noise above the level.
    """

    operator: SVDOperator
    value: Tensor
    spread: Tensor
    replaced: Tensor
    released: Tensor


@dataclass(frozen=True, kw_only=True)
class ScoreSDE(PosteriorSampler[State]):
    """Replacement of what is measured (Song et al., 2021, arXiv:2011.13456, and 2022, arXiv:2111.08005).

    At each level the measured singular directions are drawn towards `y / s`, noised to that level,
    and a step of an unconditional sampler follows: Langevin steps, then a reverse step. With
    C corrections a step costs 1 + C evaluations, and no vjp.

    The papers have measurements without noise. With `noisy` a direction `y / s` counts as the signal
    at the level `std / s`: above that level it is noised by the difference only, and below it is no
    longer replaced. Directions that are not measured depend on `y` through the prior alone and too late,
    above all where `y` decides between modes; corrections help there.

    Args:
        schedule: The noise levels.
        relaxation: How far a direction is drawn to the measured value; 1 replaces it.
        last: The same for the final sample, where `noisy` is False.
        noisy: Take the noise of the measurement into account.
        corrections: Langevin steps at each level.
        snr: Their size: the ratio of the drift to the noise, as in the papers.
        eta: Stochasticity of the reverse step; 1 is ancestral.
    """

    schedule: Schedule = field(default_factory=lambda: Karras(steps=200))
    relaxation: float = 1.0
    last: float = 1.0
    noisy: bool = True
    corrections: int = 0
    snr: float = 0.16
    eta: float = 1.0
    needs: ClassVar[str] = "linear operator with an SVD, one level of Gaussian noise"
    limits: ClassVar = {
        "relaxation": "[0, 1]",
        "last": "[0, 1]",
        "eta": "[0, 1]",
        "corrections": "[0, inf)",
        "snr": "(0, inf)",
    }

    @classmethod
    def presets(cls) -> dict[str, "ScoreSDE"]:
        """Settings of the code of arXiv:2111.08005, for pictures in [0, 1] without noise; 2000 evaluations each.

        `mri`: BraTS, 30 of 240 lines. `ct`: 23 projections.
        """
        paper = partial(
            cls,
            schedule=LogLinear(steps=1000, sigma_min=0.01, sigma_max=128.0),
            noisy=False,
            corrections=1,
        )
        return {"mri": paper(snr=0.517), "ct": paper(snr=0.246, relaxation=0.841)}

    @override
    def narrow(self, posterior: Posterior) -> SpectralProblem:
        return spectral_problem(posterior, by=self)

    @override
    def evaluations(self, target: Posterior) -> int:
        return self.schedule.steps * (1 + self.corrections)

    @override
    def step(
        self, target: SpectralProblem, state: State, sigma: float, sigma_next: float, rng: Rng
    ) -> State:
        space, known = target.space, self._known(target, sigma)
        x = _replace(space, known, state.x, self.relaxation, rng)
        for _ in range(self.corrections):
            x = _langevin(space, known, x, target.prior.score(x, sigma), self.snr, rng)
            x = _replace(space, known, x, self.relaxation, rng)
        x0 = target.prior(x, sigma)
        x = reverse_step(x, x0, sigma, sigma_next, self.eta, rng)
        if sigma_next == 0:
            x = _replace(space, self._known(target, 0.0), x, self.last, rng)
        return State(x=x, x0=x0, sigma=sigma, count=state.count + 1)

    def _known(self, target: SpectralProblem, sigma: float) -> _Known:
        operator, s, std = measurement = target.measurement
        safe = torch.where(measurement.seen, s, 1.0)
        level = std / safe if self.noisy else torch.zeros_like(s)
        return _Known(
            operator,
            measurement.measured(target.y) / safe,
            (sigma**2 - level**2).clamp(min=0).sqrt(),
            measurement.seen & (level <= sigma),
            measurement.seen & (level > sigma),
        )


def _replace(space: Space, known: _Known, x: Tensor, weight: float, rng: Rng) -> Tensor:
    """Draw the measured directions of `x` to their noised values."""
    value = known.value + known.spread * space.flatten(rng.normal_like(x))
    c = known.operator.vt(x)
    return known.operator.v(torch.where(known.replaced, c + weight * (value - c), c))


def _langevin(
    space: Space, known: _Known, x: Tensor, score: Tensor, snr: float, rng: Rng
) -> Tensor:
    """A Langevin step of the prior, which leaves released directions as they are: it would make them forget `y`."""
    square = space.dot(score, score) / space.size
    step = 2 * snr**2 / square.clamp(min=torch.finfo(x.dtype).tiny)
    moved = x + step * score + (2 * step).sqrt() * rng.normal_like(x)
    operator = known.operator
    return operator.v(torch.where(known.released, operator.vt(x), operator.vt(moved)))
