"""The usual degradations of a picture, by name."""

import math

import torch
from torch import Tensor

from ...core.errors import InputError, unknown
from ...operators import (
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
from ..base import Option, Task

Shape = tuple[int, ...]

OPTIONS: dict[str, Option] = {
    "mask": Option(
        "box",
        "box, half, expand, random, or a FILE: white (or 1) is seen, black, transparent or NaN is missing.",
        file=True,
    ),
    "share": Option(0.3, "Share of the pixels that is seen, of a random mask."),
    "factor": Option(4, "Side of the averaged blocks in pixels."),
    "kernel": Option(
        "gaussian",
        "gaussian, or a FILE with the point spread function, scaled to sum 1.",
        file=True,
    ),
    "blur": Option(1.5, "Standard deviation of the blur, or a quarter of the side of the motion."),
    "quality": Option(10, "Quality of the JPEG, 1 to 100."),
    "bits": Option(2, "Bits of a pixel, 1 to 16."),
    "seed": Option(0, "Seed of a random mask or a motion kernel."),
}


def _inpaint(shape: Shape, mask: str | Tensor, share: float, seed: int) -> Operator:
    height, width = shape[-2:]
    if isinstance(mask, Tensor):
        return Inpainting(mask, shape)
    if mask == "random":
        return Inpainting(random_mask(height, width, share, seed), shape)
    masks = {"box": box_mask, "half": half_mask, "expand": expand_mask}
    if mask not in masks:
        raise unknown("mask", mask, [*masks, "random", "FILE"])
    return Inpainting(masks[mask](height, width), shape)


def _width(blur: float) -> float:
    if not 0 < blur < math.inf:
        raise InputError(f"A blur needs a width above 0 pixels; {blur} is not.")
    return blur


def _blur(shape: Shape, kernel: str | Tensor, blur: float) -> Operator:
    if isinstance(kernel, Tensor):
        return Blur(kernel, shape)
    if kernel != "gaussian":
        raise unknown("kernel", kernel, ["gaussian", "FILE"])
    return Blur(gaussian_kernel(2 * math.ceil(3 * _width(blur)) + 1, blur), shape)


def _motion(blur: float, seed: int) -> Tensor:
    return motion_kernel(2 * math.ceil(2 * _width(blur)) + 1, seed)


def _grey(shape: Shape) -> Operator:
    if shape[0] != 3:
        raise InputError(
            f"The task 'grey' needs a colour picture; this prior has {shape[0]} channel."
        )
    return ColorMixing(torch.tensor([[0.299, 0.587, 0.114]], dtype=torch.float64), shape)


TASKS: dict[str, Task] = {
    "inpaint": Task("part of the picture is missing", _inpaint, ("mask", "share", "seed")),
    "sr": Task(
        "averages of blocks of pixels",
        lambda shape, factor: SuperResolution(factor, shape),
        ("factor",),
    ),
    "blur": Task("blur by a Gaussian, or by a kernel of one's own", _blur, ("kernel", "blur")),
    "motion": Task(
        "motion blur", lambda shape, blur, seed: Blur(_motion(blur, seed), shape), ("blur", "seed")
    ),
    "nonlinear-blur": Task(
        "motion blur of light, before the camera compresses it",
        lambda shape, blur, seed: NonlinearBlur(_motion(blur, seed), shape),
        ("blur", "seed"),
    ),
    "jpeg": Task("JPEG compression", lambda shape, quality: JPEG(quality, shape), ("quality",)),
    "hdr": Task("overexposure: twice the picture, clipped", Clip),
    "quantize": Task(
        "few values a pixel", lambda shape, bits: Quantization(bits, shape), ("bits",)
    ),
    "phase": Task("modulus of the oversampled Fourier transform", PhaseRetrieval, alike=False),
    "grey": Task("the colours are lost", _grey),
    "denoise": Task("noise only", Identity),
}
