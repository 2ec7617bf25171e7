"""The data sets of the shipped priors: what is trained on, and what is held out."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures in [-1, 1], as [n, channels, height, width], with a label (or 0) and a name each."""

    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor
    train_names: list[str]
    test_names: list[str]


def opened(data: "np.lib.npyio.NpzFile") -> Iterator[Image.Image]:
    """The colour pictures of an archive: files one after the other in `webp`, which begin and end at `offset`."""
    content = data["webp"].tobytes()
    for a, b in itertools.pairwise(data["offset"]):
        yield Image.open(io.BytesIO(content[a:b])).convert("RGB")


def to_range(x: np.ndarray) -> Tensor:
    """Bytes as [n, height, width(, channels)] to floats in [-1, 1] with channels first."""
    pictures = torch.from_numpy(x).float() / 127.5 - 1
    return pictures[:, None] if pictures.ndim == 3 else pictures.permute(0, 3, 1, 2).contiguous()


def digits(folder: Path) -> Pictures:
    """MNIST with its own split."""
    data = np.load(folder / "mnist_28x28.npz")
    return Pictures(
        train=to_range(data["x_train"]),
        test=to_range(data["x_test"]),
        train_labels=torch.from_numpy(data["y_train"]).long(),
        test_labels=torch.from_numpy(data["y_test"]).long(),
        train_names=[f"train{i:05d}" for i in range(len(data["x_train"]))],
        test_names=[f"test{i:05d}" for i in range(len(data["x_test"]))],
    )


def satellite(folder: Path) -> Pictures:
    """EuroSAT in colour at 64 px with its ten classes of land; 200 a class are held out."""
    data = np.load(folder / "eurosat_rgb_64px.npz")
    x, out = to_range(np.stack(list(map(np.array, opened(data))))), data["held_out"]
    label = torch.from_numpy(data["label"]).long()
    classes = [str(data["classes"][k]) for k in label]
    names = [f"{name}{number:04}" for name, number in zip(classes, data["number"], strict=True)]
    return Pictures(
        train=x[~out],
        test=x[out],
        train_labels=label[~out],
        test_labels=label[out],
        train_names=[name for name, held in zip(names, out, strict=True) if not held],
        test_names=[name for name, held in zip(names, out, strict=True) if held],
    )


DATA = {"digits": digits, "satellite": satellite}
