"""The classifier that ships with the package, for guidance and for judging what was drawn."""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.errors import InputError, require, unknown
from ..core.space import Space
from ..guidance.classifiers.classifier import CleanClassifier
from .card import WEIGHTS, Card, Data, check_hash
from .load import check_dtype


class DigitsNet(nn.Module):
    """A small convolutional network for pictures `[n, 1, 28, 28]` in [-1, 1].

    Its activations are smooth (SiLU) and it has no normalisation, so that its gradients are continuous
    and a picture's logits do not depend on the pictures beside it.
    """

    def __init__(self, labels: int = 10, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, width),
            nn.SiLU(),
        )
        self.head = nn.Linear(width, labels)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, `[n, 1, 28, 28]` to `[n, width]`."""
        return self._inner(x).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, `[n, 1, 28, 28]` to `[n, labels]`."""
        out: Tensor = self.head(self._inner(x))
        return out.to(x.dtype)

    def _inner(self, x: Tensor) -> Tensor:
        require(
            x.is_floating_point(),
            f"Pictures are of floating point, in [-1, 1]; these are of {x.dtype}: x / 127.5 - 1 of bytes.",
        )
        out: Tensor = self.body(x.to(self.head.weight.dtype))
        return out


# They are loaded by `load_classifier`, and belong to the prior of their name.
CLASSIFIERS = {
    "digits": Card(
        name="digits",
        reader="classifier",
        path=str(WEIGHTS / "digits_classifier"),
        where="package",
        about="handwritten digits (MNIST), 28 x 28 grey: which of 0 to 9",
        sha256="b7b14c6bd17550d4e2c9aae48dfc84bdc120f0070a94f4050ee0911385954e12",
        data=Data((1, 28, 28)),
    ),
}


def load_classifier(
    name: str = "digits",
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> CleanClassifier:
    """Load the classifier of clean pictures that belongs to a shipped prior; it has labels in the same order.

    Its network, `load_classifier().logits`, is a `DigitsNet`, whose `features` are the penultimate layer.

    Args:
        name: `digits`.
        device: Where it lives.
        dtype: Of the network; logits have the dtype of the pictures.

    Raises:
        InputError: If there is no such classifier, or its file is missing or not the expected one.
    """
    if name not in CLASSIFIERS:
        raise unknown("classifier", name, CLASSIFIERS)
    check_dtype(dtype)
    card, net = CLASSIFIERS[name], DigitsNet()
    path = card.folder / "classifier.safetensors"
    if not path.exists():
        raise InputError(f"{path} is missing; reinstall posteria.")
    check_hash([path], str(card.sha256))
    net.load_state_dict(load_file(path))
    net = net.to(device, dtype).eval().requires_grad_(False)
    space = Space(card.shape, torch.promote_types(dtype, torch.float32), device)
    return CleanClassifier(net, space, net.head.out_features)
