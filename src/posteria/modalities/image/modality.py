"""Pictures behind the interface of all kinds of data."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import InputError, require, unknown, whole
from ...core.rng import Rng
from ...core.space import Space
from ...operators import Inpainting, Operator, Quantization
from ..arrays import is_array
from ..base import Figure, Modality, Outcome, Signal
from ..tasks import Degradation, Option, Source, Task
from .figures import figures_of, hole_of, sheet_of
from .files import picture_size, read_picture, read_values
from .heads import SAMPLINGS, compression_of
from .masks import read_kernel, read_mask
from .noise import GREY, estimate_noise
from .tasks import OPTIONS, TASKS

# Of the noise that grey files get in colour; those of samples and of simulated measurements are others.
STREAM = 2
ONE_NOISE = (
    "Its one noise is the same in all three colours, and would count as three measurements: seeded noise is added that "
    "leaves the mean of the colours as it is and makes theirs independent, of 1.73 times the standard deviation in "
    "each, which says exactly as much."
)


class Image(Modality):
    """Pictures `[1 or 3 channels, height, width]` in [-1, 1], where -1 is black."""

    name: ClassVar[str] = "image"
    about: ClassVar[str] = "(1 or 3 channels, height, width)"
    noun: ClassVar[str] = "picture"
    suffixes: ClassVar[frozenset[str]] = frozenset({
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff"),
        *(".webp", ".bmp", ".gif", ".pgm", ".ppm"),
    })
    tasks: ClassVar[Mapping[str, Task]] = TASKS
    options: ClassVar[Mapping[str, Option]] = OPTIONS

    @override
    def suits(self, space: Space) -> bool:
        return len(space.shape) == 3 and space.shape[0] in {1, 3}

    @override
    def read(self, path: Path, shape: tuple[int, ...], *, taker: str, fit: bool = False) -> Signal:
        if not is_array(path):
            return read_picture(path, shape, taker=taker, fit=fit, holes=False)
        signal = read_values(path, shape, name="truth", taker=taker)
        require(
            bool(signal.x.isfinite().all()),
            f"{path.name} holds values that are NaN or infinite.",
        )
        return signal

    @override
    def read_measurement(
        self, path: Path, degradation: Degradation, *, taker: str, std: float, fit: bool = False
    ) -> Signal:
        operator, task = degradation.operator, self.tasks[degradation.task]
        listed = isinstance(operator, Inpainting)
        # A picture with holes is how a mask's measurement is kept; its list of pixels is for arrays.
        shape = operator.domain.shape if listed else operator.codomain.shape
        if not is_array(path):
            if not task.alike:
                raise InputError(
                    f"{path.name} is a picture; {taker} {shape}, which no picture holds. Give an array (.npy)."
                )
            signal = read_picture(path, shape, taker=taker, fit=fit, holes=listed)
            if degradation.task == "jpeg" and signal.meta["size"] != tuple(shape[-2:]):
                raise InputError(
                    f"--fit would resize {path.name} and with it the blocks of its compression; restore it at its own "
                    "size."
                )
        else:
            # Noise of 10 standard deviations is none; half of the range more is for operators that overshoot.
            signal = read_values(
                path,
                shape,
                name="measurement",
                taker=taker,
                also=operator.codomain.shape,
                most=2 + 10 * std if task.alike else None,
            )
        y = signal.x
        if listed and tuple(y.shape) == operator.domain.shape:
            y = operator(y)
        if isinstance(operator, Quantization):
            _expect_few(y, operator, path.name, std)
        return replace(signal, x=y)

    @override
    def read_option(
        self,
        option: str,
        path: Path,
        shape: tuple[int, ...],
        options: Mapping[str, Any],
        source: Source | None,
    ) -> tuple[Tensor, str]:
        if option == "mask":
            return read_mask(path, (shape[-2], shape[-1]), options["hole"], source)
        if option == "kernel":
            return read_kernel(path)
        raise unknown("option that is read from a file", option, ["mask", "kernel"])

    @override
    def stated_by(
        self, source: Source, task: str, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        if source.simulate:
            return {}, ""
        own = str(source.path)
        if task == "inpaint" and "share" not in options and options.get("mask", own) == own:
            # An array with a mask is the record of a run.
            drawn = {} if "mask" in options and is_array(source.path) else {"hole": "transparent"}
            return {"mask": own, **({} if "hole" in options else drawn)}, ""
        if task == "jpeg":
            return self._stated_by_jpeg(source.path, options)
        return {}, ""

    @staticmethod
    def _stated_by_jpeg(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        found = None if is_array(path) else compression_of(path)
        if "quality" in options:
            stated = found.sampling if found else ""
            return {"sampling": stated} if stated and "sampling" not in options else {}, ""
        if found is None:
            raise InputError(
                f"{path.name} is no JPEG file, which would tell its quality; say that by --quality."
            )
        require(
            bool(found.sampling) or "sampling" in options,
            f"{path.name} keeps its colours in another way than {', '.join(SAMPLINGS)}; say which of them "
            f"is nearest, such as --option sampling={next(iter(SAMPLINGS))}.",
        )
        tables = "its tables are" if found.exact else "the standard tables nearest to its own are"
        said = (
            f"{path.name} tells its compression: {tables} those of quality {found.quality}."
            + " It was compressed before it was turned (EXIF), so that its blocks may begin a few pixels off."
            * found.turned
        )
        return {"quality": found.quality, "sampling": found.sampling, **options}, said

    @override
    def noise(self, std: float) -> str:
        return f"{std:.4g} in data units ({127.5 * std:.1f} grey levels of 255)"

    @override
    def estimated(self, y: Tensor, degradation: Degradation) -> float:
        if not self.tasks[degradation.task].alike:
            raise InputError(
                f"--sigma auto estimates the noise of pictures, which the task {degradation.task!r} does not measure."
            )
        operator = degradation.operator
        rounded = self.tasks[degradation.task].sigma
        if rounded is not None:
            return rounded
        if isinstance(operator, Inpainting):
            y = operator.adjoint(y).masked_fill(~operator.mask, math.nan)
        return estimate_noise(y)

    @override
    def independent(
        self, signal: Signal, degradation: Degradation, std: float, seed: int
    ) -> tuple[Signal, float]:
        original, operator = signal.meta.get("original"), degradation.operator
        shape = (
            operator.domain.shape if isinstance(operator, Inpainting) else operator.codomain.shape
        )
        one = original is not None and original.values.shape[2] < shape[0]
        if not one or operator.rounded(signal.x, std) is not None:
            return signal, std
        wide = std * 3**0.5
        noise = wide * Rng([seed], stream=STREAM).normal(Space(shape))[0]
        noise = noise - noise.mean(0)
        # A mask's measurement is the list of what is seen.
        noise = operator(noise) if isinstance(operator, Inpainting) else noise
        return replace(
            signal, x=signal.x + noise.to(signal.x), said=(*signal.said, ONE_NOISE)
        ), wide

    @override
    def size_of(
        self, path: Path, task: Task, options: Mapping[str, Any], simulate: bool
    ) -> tuple[int, int]:
        height, width = picture_size(path)
        if simulate or task.enlarges is None:
            return height, width
        option = self.options[task.enlarges]
        given = option.value(task.enlarges, options.get(task.enlarges, option.default))
        times = whole(given, f"The {task.enlarges} of --task sr")
        return height * times, width * times

    @override
    def write(
        self, name: str, x: Tensor, like: Signal, operator: Operator | None = None
    ) -> Mapping[str, bytes]:
        original, paper = like.meta.get("original"), like.meta.get("paper", True)
        if original is None:
            return {}
        if tuple(x.shape) != like.meta["shape"]:
            return {name + original.suffix: original.developed(x)}
        hole = hole_of(operator)
        missing = None if hole is None else hole.numpy()
        return {name + original.suffix: original.put_back(x, paper=paper, missing=missing)}

    @override
    def volume(self, like: Signal) -> int:
        original, wide = like.meta.get("original"), math.prod(like.meta.get("shape", (0,)))
        return (
            0 if original is None else max(original.values.nbytes, wide * original.values.itemsize)
        )

    @override
    def figures(self, outcome: Outcome) -> Iterator[Figure]:
        return figures_of(outcome)

    @override
    def uncertainty(self, samples: Tensor, operator: Operator) -> str:
        hole, std = hole_of(operator), samples.clamp(-1, 1).std(0)
        hole = hole if hole is not None and hole.any() else None
        values = std if hole is None else std[:, hole]
        where = (
            "over all pixels" if hole is None else f"over the {values.shape[-1]} missing pixels"
        )
        level, most = (127.5 * float(v) for v in (values.mean(), values.max()))
        return f"±{level:.1f} grey levels of 255 {where}, ±{most:.0f} at most"

    @override
    def sheet(self, name: str, samples: Tensor, caption: str) -> Figure:
        return sheet_of(name, samples, caption)

    @override
    def compare(self, name: str, rows: Mapping[str, Tensor], caption: str) -> list[Figure]:
        return [
            sheet_of(f"{name}-{row}.png", x, caption, columns=len(x), part="strip", label=row)
            for row, x in rows.items()
        ]


def _expect_few(y: Tensor, operator: Quantization, name: str, std: float) -> None:
    """Raise unless a measurement has the values of a quantization, but for noise, or for rounding to bytes."""
    off = (y - operator(y)).abs() > max(3 * std, GREY)
    require(
        float(off.double().mean()) < 0.02,
        f"{name} holds other values than the {2**operator.bits} of {operator.bits} bits; say by --bits how many it "
        "has.",
    )
