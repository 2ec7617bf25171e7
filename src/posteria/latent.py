"""Priors of latents: a decoder beside a prior, and measurements of what it decodes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from .core.errors import CapabilityError, ShapeError, expect
from .core.linalg import LinearMap
from .core.space import Space
from .diffusion.denoiser import Around, Denoiser
from .diffusion.network import tensor_of
from .likelihood import FunctionLikelihood, Likelihood
from .operators.base import Composed, Operator

Map = Callable[[Tensor], Tensor]


class Decoder(Operator):
    """The decoder of an autoencoder as an operator: latents as the network sees them to signals, which are not clipped.

    Args:
        function: Takes latents `[n, *latent]` to signals `[n, *event]`, each by itself; differentiable by autograd, or
            else only samplers that need no derivative of the operator can use it.
        latents: Their space.
        shape: Of one signal.
        encoder: Takes signals to latents, as `function` would have them.

    Attributes:
        autoencoder: The module behind both, where there is one.
    """

    autoencoder: nn.Module | None = None

    def __init__(
        self, function: Map, latents: Space, shape: tuple[int, ...], encoder: Map | None = None
    ) -> None:
        super().__init__(latents, replace(latents, shape=tuple(shape)))
        self._function, self._encoder = function, encoder

    @property
    @override
    def label(self) -> str:
        return "Decoder"

    @override
    def apply(self, x: Tensor) -> Tensor:
        return self._made(self._function, x, self.domain, self.codomain, "decoder")

    @property
    def encodes(self) -> bool:
        """Whether it came with an encoder."""
        return self._encoder is not None

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The latents of signals `[*batch, *event]`: the mode of a variational encoder.

        Raises:
            CapabilityError: If there is no encoder.
            ShapeError: If it gives latents of another shape.
        """
        return self.encoded(x)

    def encoded(self, x: Tensor) -> Tensor:
        """The same, differentiable where the encoder is."""
        if self._encoder is None:
            raise CapabilityError("This decoder came without an encoder.")
        x = self.codomain.check(x, "x")
        return self._made(self._encoder, x, self.codomain, self.domain, "encoder")

    @staticmethod
    def _made(function: Map, x: Tensor, given: Space, made: Space, what: str) -> Tensor:
        """What decodes or encodes, of `[*batch, *event]`."""
        flat = x.reshape(-1, *given.shape)
        y = tensor_of(function(flat)).to(x)
        if tuple(y.shape) != (len(flat), *made.shape):
            raise ShapeError(
                f"This {what} gives {tuple(y.shape)} for {tuple(flat.shape)}, and not {(len(flat), *made.shape)}."
            )
        return y.reshape(*given.batch(x), *made.shape)


class Latent(Around):
    """A prior of latents that knows what decodes them.

    In a `Posterior` an operator of signals measures what the decoder makes of the latents, and so does a log-density;
    samples are latents, which `decode` takes to signals.

    Args:
        prior: Of the latents.
        decoder: Theirs.

    Raises:
        ShapeError: If the decoder takes latents of another shape.
    """

    def __init__(self, prior: Denoiser, decoder: Decoder) -> None:
        super().__init__(prior)
        self.decoder = expect(decoder, Decoder, by=self)
        decoder.domain.expect(prior.space, "The prior of a decoder's latents draws")

    def __repr__(self) -> str:
        return (
            f"Latent({self.about or repr(self.prior)}, decoded to {self.decoder.codomain.shape})"
        )

    @property
    @override
    def base(self) -> Denoiser:
        return self.prior.base

    @override
    def around(self, member: Denoiser) -> "Latent":
        return Latent(member, self.decoder)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.prior(x, sigma)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        return self.prior.vjp(x, sigma)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The signals of latents, `[*batch, *latent]` to `[*batch, *event]`; not clipped."""
        return self.decoder(z)

    def encode(self, x: Tensor) -> Tensor:
        """The latents of signals; see `Decoder.encode`."""
        return self.decoder.encode(x)


def decoder_of(prior: Denoiser) -> Decoder | None:
    """What decodes a prior's draws, also where the prior is tilted or counted; None if they are signals themselves."""
    if isinstance(prior, Latent):
        return prior.decoder
    inner = getattr(prior, "prior", None)
    return decoder_of(inner) if isinstance(inner, Denoiser) else None


def signals_of(prior: Denoiser) -> Space:
    """The space of what a prior's draws are shown and measured as: decoded, where they are latents."""
    decoder = decoder_of(prior)
    return prior.space if decoder is None else decoder.codomain


def undecoded(operator: Operator) -> Operator:
    """The operator of signals in one that decodes first; any other as it is."""
    decodes = isinstance(operator, Composed) and isinstance(operator.inner, Decoder)
    return operator.outer if decodes else operator  # type: ignore[attr-defined]


def measured(likelihood: Likelihood, decoder: Decoder) -> Likelihood:
    """A likelihood of signals as one of their latents; one of latents, or that decodes already, as it is."""
    if isinstance(likelihood, FunctionLikelihood):
        decodes = isinstance(likelihood.function, _Decoded)
        function = likelihood.function if decodes else _Decoded(likelihood.function, decoder)
        return replace(likelihood, function=function)
    operator = getattr(likelihood, "operator", None)
    if not isinstance(operator, Operator) or _decodes(operator):
        return likelihood
    if operator.domain.shape != decoder.codomain.shape:
        return likelihood
    # Every likelihood with an operator is a dataclass.
    changed: Any = likelihood
    return replace(changed, operator=operator @ decoder)  # type: ignore[no-any-return]


def _decodes(operator: Operator) -> bool:
    while isinstance(operator, Composed):
        operator = operator.inner
    return isinstance(operator, Decoder)


@dataclass(frozen=True)
class _Decoded:
    """A log-density of signals as one of latents."""

    function: Callable[[Tensor, Tensor], Tensor]
    decoder: Decoder

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        return self.function(y, self.decoder(z))
