"""The usual degradations of a picture, by name."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...core.errors import InputError, require, unknown
from ...operators import (
    JPEG,
    Bicubic,
    Blur,
    Clip,
    ColorMixing,
    Identity,
    Inpainting,
    NonlinearBlur,
    Operator,
    PhaseRetrieval,
    Quantization,
    SuperResolution,
    box_mask,
    expand_mask,
    gaussian_kernel,
    half_mask,
    line_kernel,
    motion_kernel,
    random_mask,
)
from ..tasks import FILE, Option, Task
from .heads import SAMPLINGS
from .noise import GREY

Shape = tuple[int, ...]

OPTIONS: dict[str, Option] = {
    "mask": Option(
        "box",
        "box, half, expand, random, or a FILE; default: the INPUT's own holes, or box to simulate.",
        file=True,
    ),
    "hole": Option(
        "black",
        "What marks the hole in the FILE, or in INPUT without one: black, white, transparent, or '#ff00ff'.",
        of={"mask": (FILE,)},
        reads=True,
    ),
    "share": Option(
        0.3, "Share of the pixels that is seen, of a random mask.", of={"mask": ("random",)}
    ),
    "factor": Option(4, "How many times larger the sides of the result are."),
    "by": Option(
        "average", "average (of blocks of pixels) or bicubic, how the picture became small."
    ),
    "kernel": Option(
        "gaussian",
        "gaussian, motion, shake, or a FILE with the point spread function, scaled to sum 1.",
        file=True,
    ),
    "blur": Option(
        1.5,
        "Standard deviation of the Gaussian in pixels, or a quarter of the side of the shake.",
        of={"kernel": ("gaussian", "shake")},
    ),
    "length": Option(9.0, "Length of the motion in pixels.", of={"kernel": ("motion",)}),
    "angle": Option(
        0.0, "Its angle in degrees, counter-clockwise from the right.", of={"kernel": ("motion",)}
    ),
    "quality": Option(10, "Quality of the JPEG, 1 to 100; default: what the file's tables say."),
    "sampling": Option(
        "4:2:0",
        "Of its colours, 4:4:4, 4:2:2, 4:4:0 or 4:2:0; default: what the file itself says.",
    ),
    "bits": Option(2, "Bits of a pixel, 1 to 16."),
    "gain": Option(
        2.0, "Factor on the values, -1 to 1 and 0 in the middle, before they are clipped."
    ),
    "seed": Option(
        0, "Seed of a random mask or a shake.", of={"mask": ("random",), "kernel": ("shake",)}
    ),
}


def _inpaint(shape: Shape, mask: str | Tensor, share: float = 1, seed: int = 0) -> Operator:
    height, width = shape[-2:]
    if isinstance(mask, Tensor):
        return Inpainting(mask, shape)
    if mask == "random":
        return Inpainting(random_mask(height, width, share, seed), shape)
    masks = {"box": box_mask, "half": half_mask, "expand": expand_mask}
    if mask not in masks:
        raise unknown("mask", mask, [*masks, "random", "FILE"])
    return Inpainting(masks[mask](height, width), shape)


def _within(shape: Shape, width: float, what: str) -> float:
    if not 0 < width <= max(shape[-2:]):
        raise InputError(
            f"{what} above 0 pixels and at most that of the picture, {max(shape[-2:])}; {width} is not."
        )
    return width


def _kernel(
    shape: Shape,
    kernel: str | Tensor,
    blur: float = 1,
    length: float = 1,
    angle: float = 0,
    seed: int = 0,
) -> Tensor:
    if isinstance(kernel, Tensor):
        return kernel
    if kernel in {"gaussian", "shake"}:
        blur = _within(shape, blur, "A blur needs a width")
    if kernel == "gaussian":
        return gaussian_kernel(2 * math.ceil(3 * blur) + 1, blur)
    if kernel == "shake":
        require(
            blur > 0.5,
            f"A shake needs a width above 0.5 pixels, below which nothing moves; {blur:g} is not.",
        )
        return motion_kernel(2 * math.ceil(2 * blur) + 1, seed)
    if kernel == "motion":
        return line_kernel(_within(shape, length, "A motion needs a length"), angle)
    raise unknown("kernel", kernel, ["gaussian", "motion", "shake", "FILE"])


def _smaller(shape: Shape, factor: int, by: str) -> Operator:
    kinds: dict[str, Callable[..., Operator]] = {"average": SuperResolution, "bicubic": Bicubic}
    if by not in kinds:
        raise unknown("way to make a picture smaller", by, kinds)
    return kinds[by](factor, shape)


def _jpeg(shape: Shape, quality: int, sampling: str) -> Operator:
    if sampling not in SAMPLINGS:
        raise unknown("sampling of colours", sampling, SAMPLINGS)
    return JPEG(quality, shape, subsample=SAMPLINGS[sampling])


def _grey(shape: Shape) -> Operator:
    if shape[0] != 3:
        raise InputError(
            f"The task 'grey' needs a colour picture; this prior has {shape[0]} channel."
        )
    return ColorMixing(torch.tensor([[0.299, 0.587, 0.114]], dtype=torch.float64), shape)


TASKS: dict[str, Task] = {
    "inpaint": Task("part of the picture is missing", _inpaint, ("mask", "hole", "share", "seed")),
    "sr": Task("it is too small", _smaller, ("factor", "by"), enlarges="factor"),
    "blur": Task(
        "it is blurred: a Gaussian, a motion, a shake of the hand, or a kernel of one's own",
        lambda shape, **options: Blur(_kernel(shape, **options), shape),
        ("kernel", "blur", "length", "angle", "seed"),
    ),
    "nonlinear-blur": Task(
        "blur of light, before the camera compresses it",
        lambda shape, **options: NonlinearBlur(_kernel(shape, **options), shape),
        ("kernel", "blur", "length", "angle", "seed"),
    ),
    # Rounding hides all noise but its own.
    "jpeg": Task("JPEG compression", _jpeg, ("quality", "sampling"), sigma=GREY),
    "clip": Task("its contrast was too high: values are clipped", Clip, ("gain",)),
    "quantize": Task(
        "few values a pixel",
        lambda shape, bits: Quantization(bits, shape),
        ("bits",),
        sigma=GREY,
    ),
    "phase": Task("modulus of the oversampled Fourier transform", PhaseRetrieval, alike=False),
    "grey": Task("the colours are lost", _grey),
    "denoise": Task("noise only", Identity, noisy=True),
}
