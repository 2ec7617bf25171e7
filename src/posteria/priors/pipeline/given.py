"""Networks that are given what their pipeline would make of a text, a time of day, or anything else."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from ...core.errors import CapabilityError
from ...core.modules import device_of, dtype_of
from ...core.space import Space
from ...diffusion.denoiser import Condition, Denoiser, Members
from ...diffusion.network import Network, Parametrisation
from .texts import Prompt

# Networks whose time is their scheduler's timestep, and how many axes a sample has. Others divide the time
# (Flux, QwenImage, Chroma), turn it round (Lumina, AuraFlow) or pack their samples, and are refused.
NETWORKS = {
    "UNet1DModel": 2,
    "SD3Transformer2DModel": 3,
    "PixArtTransformer2DModel": 3,
    "AudioLDM2UNet2DConditionModel": 3,
    "StableAudioDiTModel": 2,
    "WanTransformer3DModel": 4,
}


class Given(Condition):
    """What a network is given beside a signal and a level.

    Args:
        arguments: By the names of its arguments, such as `encoder_hidden_states`: a tensor is that of one
            sample, without an axis for the batch; anything else is handed on as it is.
    """

    def __init__(self, **arguments: Any) -> None:
        object.__setattr__(self, "arguments", arguments)

    arguments: Mapping[str, Any]

    # It is itself alone: tensors are not compared.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @override
    def __repr__(self) -> str:
        return f"Given({', '.join(self.arguments)})"


class GivenPrior(Members):
    """A network of diffusers, called as `(sample, timestep, **arguments)`.

    Without a `null` it is given nothing for no condition, or the empty text.

    Args:
        network: The network.
        space: Of its samples.
        reading: What it predicts.
        null: What stands for no condition.
        texts: Makes of a text what it is given, where that is understood.
    """

    def __init__(
        self,
        network: nn.Module,
        space: Space,
        reading: Parametrisation,
        null: Condition | None,
        texts: Callable[[str], Given] | None = None,
    ) -> None:
        self.network, self.space = network, space
        self._reading, self._texts = reading, texts
        self.null = Prompt("") if null is None and texts else null
        self.known: dict[Condition, Denoiser] = {}
        self.wrap: Callable[[nn.Module], nn.Module] = lambda module: module

    @override
    def given(self, condition: Condition) -> Denoiser:
        if condition not in self.known:
            reads = isinstance(condition, Prompt) and self._texts is not None
            seen = self._texts(condition.text) if reads else condition  # type: ignore[attr-defined,misc]
            if not isinstance(seen, Given):
                raise CapabilityError(
                    "This network is given Given(...), the arguments that its pipeline passes to it"
                    f"{', or a Prompt' if self._texts else ''}; {condition!r} is not."
                )
            module = _Call(self.network, seen.arguments)
            self.known[condition] = Network(self.wrap(module), self.space, self._reading)
        return self.known[condition]

    @override
    def unconditional(self) -> Denoiser:
        if self.null is None:
            self.null = Given()
        return self.given(self.null)


class _Call(nn.Module):
    """A network that is given the same arguments for every sample."""

    def __init__(self, network: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        dtype, device = dtype_of(network), device_of(network)
        self.arguments = {
            key: value.to(device, dtype if value.is_floating_point() else None)
            if isinstance(value, Tensor)
            else value
            for key, value in arguments.items()
        }

    def forward(self, x: Tensor, time: Tensor) -> Any:
        """The network's output, with a `sample` or as a tuple."""
        given = {
            key: value.expand(len(x), *value.shape) if isinstance(value, Tensor) else value
            for key, value in self.arguments.items()
        }
        return self.network(x, timestep=time, return_dict=False, **given)
