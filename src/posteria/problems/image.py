"""The usual ways in which a picture is spoilt, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import InputError, unknown
from ..operators import (
    JPEG,
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
    motion_kernel,
    random_mask,
)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Options:
    """The settings of the tasks; each uses its own.

    Args:
        mask: `box`, `half`, `expand` or `random`, or a mask `[height, width]` (inpaint).
        share: Share of the pixels that is seen (inpaint with a random mask).
        factor: Side of the averaged blocks (sr).
        blur: Standard deviation in pixels (blur), or a quarter of the side of the kernel (motion,
            nonlinear-blur).
        quality: Of the JPEG (jpeg).
        bits: Of a pixel (quantize).
        seed: Draws random masks and motion kernels.
    """

    mask: str | Tensor = "box"
    share: float = 0.3
    factor: int = 4
    blur: float = 1.5
    quality: int = 10
    bits: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """A kind of degradation.

    Args:
        about: What it does, in a line.
        build: Makes the operator for pictures of a shape.
        uses: The options that it reads.
    """

    about: str
    build: Callable[[Shape, Options], Operator]
    uses: tuple[str, ...] = ()


def _inpaint(shape: Shape, options: Options) -> Operator:
    mask, (height, width) = options.mask, shape[-2:]
    if isinstance(mask, Tensor):
        return Inpainting(mask, shape)
    if mask == "random":
        return Inpainting(random_mask(height, width, options.share, options.seed), shape)
    masks = {"box": box_mask, "half": half_mask, "expand": expand_mask}
    if mask not in masks:
        raise unknown("mask", mask, [*masks, "random", "FILE"])
    return Inpainting(masks[mask](height, width), shape)


def _blur(shape: Shape, options: Options) -> Operator:
    if not options.blur > 0:
        raise InputError(f"A blur needs a width above 0 pixels; {options.blur} is not.")
    return Blur(gaussian_kernel(2 * math.ceil(3 * options.blur) + 1, options.blur), shape)


def _motion(options: Options) -> Tensor:
    return motion_kernel(2 * math.ceil(2 * options.blur) + 1, options.seed)


def _grey(shape: Shape, options: Options) -> Operator:
    if shape[0] != 3:
        raise InputError(
            f"The task 'grey' needs a colour picture; this prior has {shape[0]} channel."
        )
    return ColorMixing(torch.tensor([[0.299, 0.587, 0.114]], dtype=torch.float64), shape)


TASKS: dict[str, Task] = {
    "inpaint": Task("part of the picture is missing", _inpaint, ("mask", "share", "seed")),
    "sr": Task(
        "averages of blocks of pixels",
        lambda shape, o: SuperResolution(o.factor, shape),
        ("factor",),
    ),
    "blur": Task("Gaussian blur", _blur, ("blur",)),
    "motion": Task("motion blur", lambda shape, o: Blur(_motion(o), shape), ("blur", "seed")),
    "nonlinear-blur": Task(
        "motion blur of light, before the camera compresses it",
        lambda shape, o: NonlinearBlur(_motion(o), shape),
        ("blur", "seed"),
    ),
    "jpeg": Task("JPEG compression", lambda shape, o: JPEG(o.quality, shape), ("quality",)),
    "hdr": Task("overexposure: twice the picture, clipped", lambda shape, o: Clip(shape)),
    "quantize": Task(
        "few values a pixel", lambda shape, o: Quantization(o.bits, shape), ("bits",)
    ),
    "phase": Task(
        "modulus of the oversampled Fourier transform", lambda shape, o: PhaseRetrieval(shape)
    ),
    "grey": Task("the colours are lost", _grey),
    "denoise": Task("noise only", lambda shape, o: Identity(shape)),
}


def build_operator(task: str, shape: Shape, options: Options) -> Operator:
    """The operator of a task for pictures of a shape.

    Raises:
        InputError: If there is no such task, or an option is out of range.
        ShapeError: If the picture does not suit it.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    return TASKS[task].build(shape, options)
