"""What samples say of themselves where no truth is known: residuals, chains, effective sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.space import few
from ..likelihood import GaussianLikelihood

# Random projections on which chains are compared, and the seed of their directions.
PROJECTIONS, SEED = 16, 1903
# Draws of a chain below which its halves cannot be compared, and the quantile of N(0, 1) beyond which one of the
# projections of independent draws lies in 1 % of the cases.
FEWEST, UNLIKELY = 4, 3.4
# The standard normal quantile of an interval of 95 %.
WIDE = 1.96
# Residuals, in units of the noise, beyond which a sentence says so, and beyond which a measurement is excluded.
NEAR, FAR, EXCLUDED = 0.7, 1.3, 4.0


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """What a run says of itself; None where it cannot be had.

    Args:
        lost: Samples that are not finite; the rest is of the others.
        residual: Root mean square of `(y - A(x)) / std`, in the mean over samples, for Gaussian noise.
        expected: The interval that holds it for 95 % of exact samples, whatever the prior.
        chains: Independent populations with 4 draws or more of one posterior; 0 if there are less than two.
        rhat: The largest of the rank-normalised split R-hat of 16 random projections (Vehtari et al., 2021,
            arXiv:1903.08008): 1 if populations agree.
        rhat_expected: What it stays below for as many independent draws, in 99 % of the cases.
        particles: Of a population; 1 where there are none.
        ess: As of `Samples`.
        ancestors: As of `Samples`.
    """

    lost: int
    residual: float | None = None
    expected: tuple[float, float] | None = None
    chains: int = 0
    rhat: float | None = None
    rhat_expected: float | None = None
    particles: int = 1
    ess: list[float] | None = None
    ancestors: list[float] | None = None

    def __post_init__(self) -> None:
        # In a record, where infinite numbers are null, populations that stand still apart have none.
        if self.chains and self.rhat is None:
            object.__setattr__(self, "rhat", math.inf)

    def rows(self) -> list[list[str]]:
        """What, and how much, for a table, but for the residual."""
        rows = []
        if self.rhat is not None:
            text = f"{self.rhat:.3f} over {self.chains} populations (below {self.rhat_expected:.3f} if they agree)"
            rows.append(["split R-hat of projections", text])
        for name, values in (("effective size", self.ess), ("ancestors", self.ancestors)):
            if values:
                least = f"{min(values):.0f} of {self.particles} particles"
                rows.append([name, least if len(values) == 1 else f"at least {least}"])
        return rows

    def warnings(self) -> list[str]:
        """What is suspicious, in sentences."""
        found = []
        if self.rhat is not None and self.rhat > (self.rhat_expected or 0):
            found.append(
                f"Independent populations disagree (split R-hat {self.rhat:.3f}): take more particles or steps."
            )
        return found + self._misfit()

    def _misfit(self) -> list[str]:
        """Whether samples fit the measurement as its noise allows, in a sentence if not."""
        if self.residual is None or self.expected is None:
            return []
        # Few measurements have residuals far from 1 by chance.
        low, high = min(NEAR, self.expected[0]), max(FAR, self.expected[1])
        stated = f"(residual {self.residual:.3f} sigma)"
        if self.residual > max(EXCLUDED, high):
            return [
                f"No sample explains the measurement {stated}: the prior excludes it, or the sampler is far from done. "
                "Look at the units of the measurement, the operator and the noise level, or try another sampler or "
                "more steps."
            ]
        if low <= self.residual <= high:
            return []
        side, fault = (
            ("nearer to", "fit its noise")
            if self.residual < low
            else ("farther from", "do not explain it")
        )
        return [
            f"The samples are {side} the measurement than its noise allows {stated}: they {fault}. Try another "
            "sampler, more steps, the noise level that it really has, or a prior that knows such signals."
        ]

    def about_residual(self) -> str:
        """What the residual of exact samples is, in brackets; empty where it is not known."""
        if self.expected is None:
            return ""
        low, high = self.expected
        return f"(exact samples: {low:.3f} to {high:.3f})"

    def __str__(self) -> str:
        rows = [["lost", str(self.lost)], *self.rows()]
        if self.residual is not None:
            rows.insert(
                0, ["mean residual / sigma", f"{self.residual:.3f} {self.about_residual()}"]
            )
        return "\n".join([*(f"{name}: {value}" for name, value in rows), *self.warnings()])


@torch.no_grad()
def diagnose(
    x: Tensor,
    seeds: Sequence[int],
    target: Any,
    *,
    particles: int = 1,
    ess: Sequence[float] | None = None,
    ancestors: Sequence[float] | None = None,
) -> Diagnostics:
    """What samples `[n, *event]` say of themselves, whose seeds tell their populations."""
    # With an axis more, since a signal may be a single number.
    good = x[..., None].flatten(1).isfinite().all(1)
    residual, expected = _residual(x, good, target)
    groups = _populations(x, good, seeds, particles, target)
    rhat = None
    if groups is not None:
        axes = torch.randn(
            groups[0][0].numel(),
            PROJECTIONS,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(SEED),
        )
        rhat = float(split_rhat(groups[..., None].flatten(2).double().cpu() @ axes).max())
    return Diagnostics(
        lost=int((~good).sum()),
        residual=residual,
        expected=expected,
        chains=0 if groups is None else len(groups),
        rhat=rhat,
        rhat_expected=None if groups is None else expected_rhat(len(groups), groups.shape[1]),
        particles=particles,
        ess=None if ess is None else list(ess),
        ancestors=None if ancestors is None else list(ancestors),
    )


def _residual(
    x: Tensor, good: Tensor, target: Any
) -> tuple[float | None, tuple[float, float] | None]:
    likelihood = getattr(target, "likelihood", None)
    if not isinstance(likelihood, GaussianLikelihood) or not good.any():
        return None, None
    likelihood, space = likelihood.to(x.dtype, x.device), likelihood.measurement
    y = target.y.to(x)
    parts = few(x[good])
    each = y[good].split(len(parts[0])) if target.rows > 1 else [y] * len(parts)
    off = torch.cat([
        likelihood.misfit(own, part).double().square().mean(-1)
        for own, part in zip(each, parts, strict=True)
    ])
    # Truth and exact sample have one law given y, so that the residual of each is chi / sqrt(m).
    scale = math.sqrt(2 / (9 * space.size))
    low, high = (max(0.0, 1 - scale**2 + sign * WIDE * scale) ** 1.5 for sign in (-1, 1))
    rounded = likelihood.operator.rounded(y, likelihood.std) is not None
    return float(off.sqrt().mean()), (0.0 if rounded else low, high)


def _populations(
    x: Tensor, good: Tensor, seeds: Sequence[int], particles: int, target: Any
) -> Tensor | None:
    """The draws of independent populations of one posterior, `[chains, draws, *event]`."""
    if particles == 1 or getattr(target, "rows", 1) > 1 or not good.all():
        return None
    which = torch.tensor([seed // particles for seed in seeds])
    parts = [x[(which == unit).to(x.device)] for unit in sorted({*which.tolist()})]
    parts = [part for part in parts if len(part) >= FEWEST]
    if len(parts) < 2:
        return None
    draws = min(map(len, parts))
    return torch.stack([part[:draws] for part in parts])


def split_rhat(chains: Tensor) -> Tensor:
    """Rank-normalised split R-hat, the larger of that of the values and of their distances from the median.

    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021, arXiv:1903.08008), section 4. Of chains
    `[chains, draws, *shape]`, at least 4 draws each, to `[*shape]` in float64; 1 where nothing varies.
    """
    half = chains.shape[1] // 2
    parts = torch.cat([chains[:, :half], chains[:, -half:]]).double()
    folded = (parts - parts.flatten(0, 1).quantile(0.5, 0)).abs()
    return torch.maximum(_rhat(_normalised(parts)), _rhat(_normalised(folded)))


def _normalised(parts: Tensor) -> Tensor:
    """Normal scores of the ranks of all draws, where ties share their mean rank."""
    columns = parts.flatten(0, 1).movedim(0, -1).contiguous()
    ordered = columns.sort(-1).values
    below = torch.searchsorted(ordered, columns)
    rank = (below + torch.searchsorted(ordered, columns, right=True) + 1) / 2
    scores = torch.special.ndtri((rank.double() - 0.375) / (columns.shape[-1] + 0.25))
    back: Tensor = scores.movedim(-1, 0).reshape(parts.shape)
    return back


def _rhat(parts: Tensor) -> Tensor:
    n = parts.shape[1]
    within, between = parts.var(1).mean(0), parts.mean(1).var(0)
    ratio = ((n - 1) / n * within + between) / within
    # Chains that stand still at different points disagree without end.
    return torch.where((within > 0) | (between > 0), ratio, 1.0).sqrt()


def expected_rhat(chains: int, draws: int) -> float:
    """What the largest split R-hat of independent draws stays below in 99 % of the cases, about.

    The means of m halves of n draws vary by chi-square with m - 1 degrees of freedom (Wilson and Hilferty, 1931).
    """
    freedom, half = 2 * chains - 1, draws // 2
    scale = 2 / (9 * freedom)
    most: float = (1 - scale + UNLIKELY * math.sqrt(scale)) ** 3
    return math.sqrt((half - 1) / half + most / half)
