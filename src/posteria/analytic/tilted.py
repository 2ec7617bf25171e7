"""Tilted laws p(x | c)^weight p(x)^(1 - weight) that are known exactly: of two Gaussians, or in few dimensions."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from ..core.errors import InputError, ShapeError, expect, require
from ..core.linalg import score
from ..core.settings import as_number
from ..diffusion.denoiser import Denoiser
from .gaussian import Gaussian
from .mixture import GaussianMixture
from .noised import Noised, enclose
from .quadrature import Quadrature

F64 = torch.float64
Law = Gaussian | GaussianMixture
# By dimension: cells to the standard deviation of the narrowest feature, and cells a side at least and at most.
FINE, LEAST, MOST = {1: 12, 2: 6}, {1: 512, 2: 128}, {1: 16384, 2: 1024}


def tilted_gaussian(conditional: Gaussian, unconditional: Gaussian, weight: float) -> Gaussian:
    """The law `p_c^weight p_u^(1 - weight)` of two Gaussians, which is a Gaussian.

    Args:
        conditional: The law p_c.
        unconditional: The law p_u, of equal shape.
        weight: The power of the condition.

    Raises:
        ShapeError: If the two draw signals of different shapes.
        InputError: If the weight is no number, or the product has no finite integral, as when the unconditional law
            is narrow.
    """
    _alike(conditional, unconditional)
    weight = _power(weight)
    of_c = torch.linalg.inv(conditional.covariance.double())
    of_u = torch.linalg.inv(unconditional.covariance.double())
    precision = weight * of_c + (1 - weight) * of_u
    lowest = float(torch.linalg.eigvalsh(precision).min())
    if lowest <= 1e-12 * float(of_c.abs().max() + of_u.abs().max()):
        raise _boundless(weight)
    covariance = torch.linalg.inv(precision)
    pull = weight * of_c @ conditional.mean.double().flatten()
    pull = pull + (1 - weight) * of_u @ unconditional.mean.double().flatten()
    mean = (covariance @ pull).reshape(conditional.space.shape).to(conditional.mean)
    return Gaussian(mean, ((covariance + covariance.mT) / 2).to(mean))


class TiltedQuadrature(Denoiser):
    """The law `p_c^weight p_u^(1 - weight)` in one or two dimensions and its ideal denoiser, by quadrature.

    As a denoiser it is E[x_0 | x] of the noised tilted law. Its error is below 1e-8 of the data's unit
    wherever the density of `x` is above 1e-40 of its highest in one dimension and 1e-12 in two. On the CPU.

    Args:
        conditional: The law p_c.
        unconditional: The law p_u, of equal shape.
        weight: The power of the condition.

    Attributes:
        law: Draws and density, of flattened signals in float64.
        log_evidence: Log of the integral of the product, which is `weight - 1` times the Renyi divergence
            of order `weight` between p_c and p_u.
        mean: `[*event]` in float64.
        covariance: Of the flattened event, `[d, d]` in float64.

    Raises:
        ShapeError: If the laws draw signals of different shapes.
        InputError: If the weight is no number, signals have more than 2 entries, the product has no finite
            integral, or it is too rough for quadrature.
    """

    def __init__(self, conditional: Law, unconditional: Law, weight: float) -> None:
        _alike(conditional, unconditional)
        self.space, self.weight = conditional.space, _power(weight)
        d = self.space.size
        require(
            d in MOST,
            f"A tilted law is integrated in 1 or 2 dimensions; these laws have {d}. Two Gaussians "
            "in any number of them have tilted_gaussian.",
        )
        self.conditional, self.unconditional = _flat(conditional), _flat(unconditional)
        _check_tails(self.conditional, self.unconditional, self.weight)
        laws = (self.conditional, self.unconditional)
        variances = torch.cat([torch.linalg.eigvalsh(law.covariances).flatten() for law in laws])
        centers = torch.cat([law.means for law in laws])
        middle = (centers.amax(0) + centers.amin(0)) / 2
        half = float((centers - middle).abs().max()) + 12 * math.sqrt(float(variances.max()))
        box = enclose(self.log_density, middle, half)
        narrow = math.sqrt(float(variances.min()) / max(1.0, self.weight))
        reach = float((box.high - box.low).max())
        cells = max(math.ceil(FINE[d] * reach / narrow), LEAST[d])
        require(
            cells <= MOST[d],
            f"These laws are too rough for quadrature: features {narrow:.2g} wide in a box of "
            f"{reach:.2g} need {cells} cells a side, and {MOST[d]} are the most.",
        )
        low, high = box.low.tolist(), box.high.tolist()
        self.law = Quadrature(self.log_density, low, high, cells)
        self.log_evidence = self.law.log_evidence
        self.mean = self.law.mean.reshape(self.space.shape)
        self.covariance = self.law.covariance
        self._box, self._noised = box, Noised(self.log_density, box, cells)

    def log_density(self, x: Tensor) -> Tensor:
        """Log of the product, which is not normalised: flattened signals `[n, d]` in float64 to `[n]`."""
        given, free = self.conditional.log_prob(x), self.unconditional.log_prob(x)
        return self.weight * given + (1 - self.weight) * free

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent draws, `[n, *event]`."""
        return self.space.unflatten(self.law.sample(n, generator)).to(self.space.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, `[*batch, *event]` to `[*batch]`."""
        return self.law.log_prob(self.space.flatten(self.space.check(x, "x")))

    def cumulative(self, cells: int = 8192) -> tuple[Tensor, Tensor]:
        """Points in one dimension and the probability of what is below each, `[cells + 1]` in float64.

        The error is that of the midpoint rule, 1e-6 where a cell is a hundredth of a feature's width.

        Raises:
            InputError: In two dimensions.
        """
        require(
            self.space.size == 1, "A distribution function is of one dimension; this law has 2."
        )
        low, high = (float(corner) for corner in self._box)
        points = torch.linspace(low, high, cells + 1, dtype=F64)
        share = self.log_density((points[:-1, None] + points[1:, None]) / 2).softmax(0)
        return points, torch.cat([torch.zeros(1, dtype=F64), share.cumsum(0)])

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._integrals(x, sigma)[1]

    def noised_log_prob(self, x: Tensor, sigma: float) -> Tensor:
        """The log-density of `x_0 + sigma * noise`, `[*batch, *event]` to `[*batch]`."""
        return self._integrals(x, sigma)[0] - self.log_evidence - self._log_peak(sigma)

    def renyi(self, x: Tensor, sigma: float, sigma_free: float | None = None) -> Tensor:
        """The Renyi divergence of order `weight`, `[*batch]`, of x_0 given `x` with the condition from that without.

        It is `log(int p(x_0 | x, c)^w p(x_0 | x)^(1 - w)) / (w - 1)`, at the levels `sigma` where the condition
        is given and `sigma_free`, by default the same, where it is not.

        Raises:
            InputError: If the weight is 0 or 1, or the levels have a product without a finite integral.
        """
        w, free = self.weight, sigma if sigma_free is None else sigma_free
        require(w not in {0, 1}, f"A Renyi divergence has an order other than 0 and 1; not {w:g}.")
        precision = w / sigma**2 + (1 - w) / free**2
        require(
            precision > 0,
            f"weight / sigma^2 + (1 - weight) / sigma_free^2 is above 0; it is {precision:.3g} for "
            f"the levels {sigma:g} and {free:g}.",
        )
        flat = self.space.flatten(x)
        of_c = self.conditional.noised(sigma).log_prob(flat) + self._log_peak(sigma)
        of_u = self.unconditional.noised(free).log_prob(flat) + self._log_peak(free)
        log_joint = self._integrals(x, 1 / math.sqrt(precision))[0]
        return (log_joint - w * of_c - (1 - w) * of_u) / (w - 1)

    def renyi_gradient(self, x: Tensor, sigma: float, sigma_free: float | None = None) -> Tensor:
        """The gradient of `renyi` in `x`, `[*batch, *event]`: what classifier-free guidance leaves out.

        The ideal denoiser is `D_u + w (D_c - D_u)` and `sigma^2 (w - 1)` times it (Moufad et al., 2025,
        arXiv:2505.21101).
        """
        return score(lambda z: self.renyi(z, sigma, sigma_free), x)

    def _log_peak(self, sigma: float) -> float:
        """Log of the integral of `exp(-|x|^2 / (2 sigma^2))`."""
        require(sigma > 0, f"A density under noise is that at a level above 0; {sigma:g} is not.")
        return self.space.size * math.log(2 * math.pi * sigma**2) / 2

    def _integrals(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Log of the integral of the product times `exp(-|x - x_0|^2 / (2 sigma^2))`, and E[x_0 | x]."""
        batch = self.space.batch(x)
        flat = self.space.flatten(x).reshape(-1, self.space.size).double()
        levels = torch.as_tensor(sigma, dtype=F64, device=x.device).expand(batch).reshape(-1)
        # At low noise the guided estimate is off by sigma^4 only.
        given, free = self.conditional(flat, levels), self.unconditional(flat, levels)
        log_mass, mean = self._noised(flat, levels, free.lerp(given, self.weight))
        return log_mass.reshape(batch).to(x.dtype), mean.reshape(x.shape).to(x.dtype)

    def __repr__(self) -> str:
        return f"TiltedQuadrature(weight={self.weight:g}, event {self.space.shape})"


def _alike(conditional: Denoiser, unconditional: Denoiser) -> None:
    if conditional.space.shape != unconditional.space.shape:
        raise ShapeError(
            "The two laws of a tilted one draw signals of one shape; these draw "
            f"{conditional.space.shape} and {unconditional.space.shape}."
        )


def _power(weight: float) -> float:
    power = as_number(weight)
    if power is None or not math.isfinite(power):
        raise InputError(f"A weight is a finite number; {weight!r} is not.")
    return power


def _boundless(weight: float) -> InputError:
    return InputError(
        f"p(x | c)^{weight:g} p(x)^{1 - weight:g} has no finite integral: somewhere the tails of the "
        "unconditional law are too light. Take a smaller weight or a wider unconditional law."
    )


def _flat(law: Law) -> GaussianMixture:
    """The law of the flattened signals, in float64."""
    if isinstance(law, Gaussian):
        one = torch.ones(1, dtype=F64)
        return GaussianMixture(
            one, law.mean.double().reshape(1, -1), law.covariance.double()[None]
        )
    mixture = expect(law, GaussianMixture, by="A tilted law by quadrature")
    means = mixture.means.double().reshape(len(mixture.weights), -1)
    return GaussianMixture(mixture.weights.double(), means, mixture.covariances.double())


def _check_tails(given: GaussianMixture, free: GaussianMixture, weight: float) -> None:
    """Raise unless the tilted law has Gaussian tails in every direction."""
    angle = torch.linspace(0, math.pi, 721, dtype=F64)[:, None]
    units = torch.cat([angle.cos(), angle.sin()], 1) if given.space.size == 2 else angle[:1] + 1

    def tails(law: GaussianMixture) -> Tensor:
        # Far away a mixture is as heavy as its widest component.
        precision = torch.linalg.inv(law.covariances)
        return torch.einsum("ui,kij,uj->uk", units, precision, units).amin(-1)

    of_c, of_u = tails(given), tails(free)
    if not (weight * of_c + (1 - weight) * of_u > 1e-9 * (of_c + of_u)).all():
        raise _boundless(weight)
