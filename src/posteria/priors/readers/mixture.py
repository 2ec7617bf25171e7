"""Mixtures of probabilistic principal component analysers: one file of safetensors."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...analytic import PPCAMixture
from ...core.errors import InputError, require

NAMES = ("weights", "means", "factors", "variances", "noise")


def read_mixture(
    files: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    size: tuple[int, ...] | None = None,
) -> PPCAMixture:
    """Read a law from `mixture.safetensors`, which holds the arguments of `PPCAMixture`.

    Factors may be of half precision: their columns are made orthonormal again.

    Raises:
        InputError: If the file is missing, damaged or not of such a law, or `size` is given.
    """
    path = files / "mixture.safetensors"
    require(size is None, f"{files} is a law of pictures of one size; leave out size={size}.")
    try:
        found = load_file(path)
        parts = {name: found[name].double() for name in NAMES}
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path} is not a mixture that posteria reads: {error}.") from error
    q, r = torch.linalg.qr(parts["factors"])
    axes = r.abs() - torch.eye(r.shape[-1], dtype=r.dtype)
    require(
        bool(axes.abs().max() < 0.01),
        f"{path} is not a mixture that posteria reads: the columns of its factors are not orthonormal.",
    )
    classes = found.get("classes")
    require(
        classes is None or classes.shape == parts["weights"].shape,
        f"{path} is not a mixture that posteria reads: it has not one class for each component.",
    )
    parts["factors"] = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    kept = torch.promote_types(dtype, torch.float32)
    parts = {name: part.to(device, kept) for name, part in parts.items()}
    return PPCAMixture(**parts, classes=classes)
