"""Measurement operators."""

from .base import (
    Composed as Composed,
    LinearComposed as LinearComposed,
    LinearOperator as LinearOperator,
    Operator as Operator,
    SVDOperator as SVDOperator,
)
from .convolution import (
    Blur as Blur,
    CircularBlur as CircularBlur,
    gaussian_kernel as gaussian_kernel,
    line_kernel as line_kernel,
    motion_kernel as motion_kernel,
)
from .function import Function as Function, LinearFunction as LinearFunction
from .masks import (
    box_mask as box_mask,
    expand_mask as expand_mask,
    half_mask as half_mask,
    random_mask as random_mask,
)
from .nonlinear import (
    JPEG as JPEG,
    Clip as Clip,
    NonlinearBlur as NonlinearBlur,
    PhaseRetrieval as PhaseRetrieval,
    Quantization as Quantization,
)
from .pixel import (
    Bicubic as Bicubic,
    ChannelSum as ChannelSum,
    ColorMixing as ColorMixing,
    Identity as Identity,
    Inpainting as Inpainting,
    Matrix as Matrix,
    SuperResolution as SuperResolution,
)
from .signal import (
    Convolution as Convolution,
    Decimation as Decimation,
    STFTMask as STFTMask,
)
