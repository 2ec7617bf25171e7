"""Networks that are given what their pipeline would make of a text, a time of day, or anything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from ...core.errors import CapabilityError, ShapeError
from ...core.modules import device_of, dtype_of
from ...core.space import Space, real
from ...diffusion.denoiser import Condition, Denoiser, Members, as_condition
from ...diffusion.network import Network
from ...diffusion.parametrisation import Parametrisation


@dataclass(frozen=True)
class Prompt(Condition):
    """A text."""

    text: str


@dataclass(frozen=True, eq=False)
class Embeddings(Condition):
    """A text as a network in the layout of Stable Diffusion or Stable Diffusion XL sees it.

    Args:
        tokens: `[length, channels]`, a pipeline's `prompt_embeds` of one prompt.
        pooled: `[channels]`, its `pooled_prompt_embeds`, for networks of the layout of Stable Diffusion XL.

    Both may be arrays of NumPy.

    Raises:
        InputError: If they are not real numbers.
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "pooled"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, real(value, f"The embedding {name}"))

    # It is itself alone: tensors are not compared.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Given(Condition):
    """What a network is given beside a signal and a level.

    Args:
        arguments: By the names of its arguments, such as `encoder_hidden_states`: a tensor, or one in a dictionary, is
            that of one sample, without an axis for the batch; anything else is handed on as it is.

    Raises:
        ShapeError: If a mask of whole numbers has another axis, with which networks add it to their products.
    """

    def __init__(self, **arguments: Any) -> None:
        for name, value in arguments.items():
            mask = isinstance(value, Tensor) and "attention_mask" in name
            if mask and not value.is_floating_point() and value.ndim != 1:
                raise ShapeError(
                    f"{name} of one sample is a row of tokens; this has shape {tuple(value.shape)}: give {name}[0]."
                )
        object.__setattr__(self, "arguments", arguments)

    arguments: Mapping[str, Any]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @override
    def __repr__(self) -> str:
        return f"Given({', '.join(self.arguments)})"


class GivenPrior(Members):
    """A network of diffusers, called as `(sample, timestep, **arguments)`.

    Without a `null` it has no unconditional member, or what its pipeline makes of no text.

    Args:
        network: The network.
        space: Of its samples.
        reading: What it predicts.
        null: What stands for no condition.
        texts: Makes of a text, or of None, what the network is given, where that is understood.
        multiple: See `Network`.
    """

    def __init__(
        self,
        network: nn.Module,
        space: Space,
        reading: Parametrisation,
        null: Condition | None,
        texts: Callable[[Condition | None], Given] | None = None,
        multiple: int = 0,
    ) -> None:
        self.network, self.space, self.null, self.texts = network, space, null, texts
        self.parametrisation, self._multiple = reading, multiple
        self.known: dict[Condition | None, Denoiser] = {}
        self.wrap: Callable[[nn.Module], nn.Module] = lambda module: module
        # Of its members; see `Network`.
        self.doubt: Callable[[Network], None] | None = None

    @override
    def given(self, condition: Condition | int) -> Denoiser:
        return self._member(as_condition(condition))

    @override
    def unconditional(self) -> Denoiser:
        return self._member(self.null)

    def _member(self, condition: Condition | None) -> Denoiser:
        if condition not in self.known:
            module = self.wrap(_Call(self.network, self._seen(condition).arguments))
            member = Network(module, self.space, self.parametrisation)
            member.multiple, member.doubt = self._multiple, self.doubt
            self.known[condition] = member
        return self.known[condition]

    def _seen(self, condition: Condition | None) -> Given:
        if isinstance(condition, Given):
            return condition
        if self.texts is not None:
            return self.texts(condition)
        if condition is None:
            raise CapabilityError(
                "This network has no unconditional member: say what it is given then, null=Given(...), the arguments "
                "that its pipeline passes to it (docs/priors.md)."
            )
        raise CapabilityError(
            "This network is given Given(...), the arguments that its pipeline passes to it; it cannot be given "
            f"{condition!r}."
        )


class _Call(nn.Module):
    """A network that is given the same arguments for every sample."""

    def __init__(self, network: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        dtype, device = dtype_of(network), device_of(network)

        def placed(value: Tensor) -> Tensor:
            return value.to(device, dtype if value.is_floating_point() else None)

        self.arguments = _each(arguments, placed)

    def forward(self, x: Tensor, time: Tensor) -> Any:
        """The network's output, with a `sample` or as a tuple."""
        given = _each(self.arguments, lambda value: value.expand(len(x), *value.shape))
        return self.network(x, timestep=time, return_dict=False, **given)


def reads_texts(prior: Denoiser) -> bool:
    """Whether a prior is given texts, as `Prompt` or `Embeddings`."""
    base = prior.base
    return isinstance(base, GivenPrior) and base.texts is not None


def _each(arguments: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same arguments with every tensor changed, also within dictionaries."""
    if isinstance(arguments, Mapping):
        return {key: _each(value, change) for key, value in arguments.items()}
    return change(arguments) if isinstance(arguments, Tensor) else arguments
