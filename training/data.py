"""The data sets of the shipped priors: what is trained on, and what is held out."""

import hashlib
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Emoji that differ only by skin tone or gender are one group: a group is trained on or held out as
# a whole, so that no held-out picture has a near copy among the training pictures.
SKIN_AND_GENDER = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "200d", "2640", "2642", "fe0f"}
PEOPLE = {"1f468", "1f469", "1f9d1"}
VARIANTS = 6


@dataclass(frozen=True)
class Pictures:
    """Pictures in [-1, 1], as [n, channels, height, width], with a label (or 0) and a name each."""

    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor
    train_names: list[str]
    test_names: list[str]


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


def group(name: str) -> str:
    """The emoji without its skin tones and genders: `1f468_1f3fd_200d_1f373` is `person_1f373`."""
    parts = [p for p in name.split("_") if p not in SKIN_AND_GENDER]
    return "_".join("person" if p in PEOPLE else p for p in parts) or name


def order(text: str) -> int:
    """A number in [0, 2^32) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def emoji(folder: Path) -> Pictures:
    """Noto emoji at 64 px: one group in five is held out; at most six variants of a group are kept."""
    data = np.load(folder / "noto_emoji_rgb_64.npz")
    members: dict[str, list[int]] = {}
    names = [str(name) for name in data["codepoints"]]
    for i in sorted(range(len(names)), key=lambda i: order(names[i])):
        members.setdefault(group(names[i]), []).append(i)
    kept = {key: rows[:VARIANTS] for key, rows in members.items()}
    held_out = {key for key in kept if order("held out " + key) % 5 == 0}
    train = sorted(i for key in kept if key not in held_out for i in kept[key])
    test = sorted(i for key in held_out for i in kept[key])
    x = to_range(data["x"])
    return Pictures(
        train=x[train],
        test=x[test],
        train_labels=torch.zeros(len(train), dtype=torch.long),
        test_labels=torch.zeros(len(test), dtype=torch.long),
        train_names=[names[i] for i in train],
        test_names=[names[i] for i in test],
    )


def satellite(folder: Path) -> Pictures:
    """EuroSAT in colour at 64 px with its ten classes of land; 200 a class are held out."""
    data = np.load(folder / "eurosat_rgb_64px.npz")
    content, ends, out = data["webp"].tobytes(), data["offset"], data["held_out"]
    files = (io.BytesIO(content[a:b]) for a, b in itertools.pairwise(ends))
    x = to_range(np.stack([np.array(Image.open(file).convert("RGB")) for file in files]))
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


DATA = {"digits": digits, "emoji": emoji, "satellite": satellite}
