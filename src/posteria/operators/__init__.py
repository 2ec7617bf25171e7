"""Measurement operators."""

from .base import Composed, LinearComposed, LinearOperator, Operator, SVDOperator
from .convolution import Blur, CircularBlur, gaussian_kernel, motion_kernel
from .fourier import PhaseRetrieval
from .function import Function, LinearFunction
from .masks import box_mask, expand_mask, half_mask, random_mask
from .nonlinear import JPEG, Clip, NonlinearBlur, Quantization
from .pixel import ColorMixing, Identity, Inpainting, Matrix, SuperResolution

__all__ = [
    "JPEG",
    "Blur",
    "CircularBlur",
    "Clip",
    "ColorMixing",
    "Composed",
    "Function",
    "Identity",
    "Inpainting",
    "LinearComposed",
    "LinearFunction",
    "LinearOperator",
    "Matrix",
    "NonlinearBlur",
    "Operator",
    "PhaseRetrieval",
    "Quantization",
    "SVDOperator",
    "SuperResolution",
    "box_mask",
    "expand_mask",
    "gaussian_kernel",
    "half_mask",
    "motion_kernel",
    "random_mask",
]
