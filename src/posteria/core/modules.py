"""What must be known of a caller's network, which is never changed."""

from typing import Any

import torch
from torch import nn

from .errors import CapabilityError, InputError


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """The dtype of a module's weights; None if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def device_of(module: nn.Module) -> torch.device | None:
    """Where a module computes: where its weights are, or are brought by the hooks of accelerate.

    Raises:
        CapabilityError: If its weights are nowhere.
    """
    for layer in module.modules():
        device = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    device = next((p.device for p in module.parameters() if p.is_floating_point()), None)
    if device is not None and device.type == "meta":
        raise CapabilityError(
            "The weights of this network are on the device 'meta', where there are no numbers: load them first."
        )
    return device


class Mode:
    """The layers of a network that draw numbers, or make samples depend on each other, in training mode.

    `layers` has those of a module; of a function nothing is known.

    Raises:
        InputError: If it is on another kind of device than it is to compute on.
    """

    def __init__(self, module: Any, device: torch.device | str) -> None:
        layers = module.modules() if isinstance(module, nn.Module) else ()
        self.layers = [layer for layer in layers if _depends_on_mode(layer)]
        there = device_of(module) if isinstance(module, nn.Module) else None
        here = torch.device(device).type
        if there is not None and there.type != here:
            raise InputError(
                f"The network is on {there.type} and its space on {here}; move it with module.to({here!r}), "
                f"or say Space(..., device={there.type!r})."
            )

    def check(self) -> None:
        """Raise `InputError` if one of them is in training mode."""
        for layer in self.layers:
            if layer.training:
                raise InputError(
                    f"The network is in training mode, where its {type(layer).__name__} draws numbers or looks at "
                    "its batch, so that a sample is no function of its seed; call module.eval() first."
                )


def _depends_on_mode(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return layer.p > 0
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
        return layer.dropout > 0
    # The labels of DiT, and whole branches of networks, are dropped by layers with a share of their own.
    shares = (getattr(layer, name, 0) for name in ("dropout_prob", "drop_prob"))
    if any(isinstance(share, int | float) and share > 0 for share in shares):
        return True
    return isinstance(layer, nn.RReLU | nn.modules.batchnorm._BatchNorm)
