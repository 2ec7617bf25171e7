"""A local network on pictures and signals of any size, in windows that give exactly what the whole would."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from ...core import linalg
from ...core.errors import CapabilityError, require


class Local(Protocol):
    """A network whose answer at a pixel depends on pixels at most `reach` rows or columns (or steps of time) away.

    It takes sides that are multiples of `stride`, and windows whose offsets are.
    """

    @property
    def reach(self) -> int:
        """In pixels."""

    @property
    def stride(self) -> int:
        """In pixels."""

    @property
    def footprint(self) -> int:
        """Numbers that a derivative keeps for each pixel, about."""

    @property
    def lean(self) -> int:
        """The same where parts of it are computed again."""

    @property
    def axes(self) -> int:
        """2 for pictures, 1 for signals in time."""

    @property
    def apart(self) -> bool:
        """Whether each channel is a picture or signal by itself."""

    def __call__(self, x: Tensor, time: Tensor, again: bool = False) -> Tensor:
        """`[n, channels, *sides]` at times `[n]` to the same; `again` is whether a derivative computes parts again."""


Cut = tuple[slice, ...]
# Of a window, without its halo, about.
SIDES = {1: 2**15, 2: 512}
# Numbers that a derivative may keep at a time: 1 GiB in single precision.
KEPT = 2**28


class Windowed(nn.Module):
    """A local network, one sample and one window at a time where a picture or signal is larger than a window.

    So it does too where all samples together would keep more than `KEPT` numbers for a derivative.
    A value is computed with a halo of `reach` around each window, and its derivative, which is local too, with
    one of twice that: nothing is blended, and every pixel is what the network gives for the whole.
    Sides that are no multiple of the network's stride are filled up by the mirror image of their end, whose noise is
    like any other; a last row, column or step that is repeated is not, and costs the end up to half of its precision.

    Args:
        net: The network.
        side: Of a window, without its halo, 512 pixels or 32768 steps of time unless it is given. Those of derivatives
            are as wide as `KEPT` allows where parts of the network are computed again, and no wider than a given side.

    Raises:
        InputError: If the side is no positive multiple of the network's stride.
    """

    def __init__(self, net: Local, side: int | None = None) -> None:
        super().__init__()
        most, side = side, -(-SIDES[net.axes] // net.stride) * net.stride if side is None else side
        require(
            side > 0 and side % net.stride == 0,
            f"A window's side is a positive multiple of {net.stride}; {side} is not.",
        )
        self.net = net
        self.side, self.most = side, math.inf if most is None else most

    @override
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The network's output, `[n, channels, *sides]`, at times `[n]`."""
        sides = x.shape[2:]
        within = (slice(None), slice(None), *map(slice, sides))
        ends = [end for n in reversed(sides) for end in (0, -n % self.net.stride)]
        if any(ends):
            mirrored = all(-n % self.net.stride < n for n in sides)
            x = nn.functional.pad(x, ends, "reflect" if mirrored else "replicate")
        planes = x.shape[0] * (x.shape[1] if self.net.apart else 1)
        if self.at_once(planes, x.shape[2:]):
            return self.net(x, time)[within]
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            raise CapabilityError(
                "Windows give derivatives by the picture and none by the weights; freeze the network first: "
                "network.requires_grad_(False)."
            )
        shape = x.shape
        if self.net.apart:
            x, time = x.reshape(planes, 1, *shape[2:]), time.repeat_interleave(shape[1])
        out: Tensor = _Windows.apply(x, time, self)  # type: ignore[no-untyped-call]
        return out.reshape(shape)[within]

    @property
    def halo(self) -> int:
        """The network's reach as a multiple of its stride."""
        return -(-self.net.reach // self.net.stride) * self.net.stride

    def at_once(self, planes: int, sides: Sequence[int]) -> bool:
        """Whether so many pictures or signals are evaluated without windows."""
        keeps = planes * math.prod(sides) * self.net.footprint
        return max(sides) <= self.side + 2 * self.halo and keeps <= KEPT

    def wide(self, sides: Sequence[int]) -> int:
        """The side of a window of derivatives: all of a picture or signal that keeps no more than `KEPT` numbers."""
        if math.prod(sides) * self.net.lean <= KEPT and max(sides) <= self.most:
            return max(sides)
        most = int((KEPT / self.net.lean) ** (1 / self.net.axes)) - 4 * self.halo
        step = -(-32 // self.net.stride) * self.net.stride
        return int(min(self.most, max(most // step * step, step)))

    def read(self, sides: Sequence[int], pull: bool) -> int:
        """Pixels or steps that are read for those of a picture or signal, with their halos; for its derivative."""
        side, halo = (self.wide(sides), 2 * self.halo) if pull else (self.side, self.halo)
        return math.prod(
            sum(min(a + side + halo, n) - max(a - halo, 0) for a in range(0, n, side))
            for n in sides
        )

    def cuts(self, x: Tensor, side: int) -> Iterator[tuple[Cut, Callable[[int], tuple[Cut, Cut]]]]:
        """Each window, and, for a halo around it, where to read and where the window lies in what was read."""
        sides = x.shape[2:]
        for corner in product(*(range(0, n, side) for n in sides)):
            window = [(a, min(a + side, n)) for a, n in zip(corner, sides, strict=True)]

            def around(halo: int, window: list[tuple[int, int]] = window) -> tuple[Cut, Cut]:
                read = [
                    (max(a - halo, 0), min(b + halo, n))
                    for (a, b), n in zip(window, sides, strict=True)
                ]
                inner = [(a - c, b - c) for (a, b), (c, _) in zip(window, read, strict=True)]
                return _cut(read), _cut(inner)

            yield _cut(window), around


def _cut(edges: list[tuple[int, int]]) -> Cut:
    return tuple(slice(*edge) for edge in edges)


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, time: Tensor, windowed: Windowed) -> Tensor:
        ctx.save_for_backward(x, time)
        ctx.windowed = windowed
        out = torch.empty_like(x)
        for window, around in windowed.cuts(x, windowed.side):
            read, inner = around(windowed.halo)
            for i in range(len(x)):
                part = windowed.net(x[i : i + 1][:, :, *read], time[i : i + 1])
                out[i][:, *window] = part[0][:, *inner]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        x, time = ctx.saved_tensors
        windowed: Windowed = ctx.windowed
        out = torch.empty_like(x)
        for window, around in windowed.cuts(x, windowed.wide(x.shape[2:])):
            read, inner = around(2 * windowed.halo)
            for i in range(len(x)):
                net = partial(windowed.net, time=time[i : i + 1], again=True)
                _, pullback = linalg.vjp(net, x[i : i + 1][:, :, *read], "This network")
                out[i][:, *window] = pullback(v[i : i + 1][:, :, *read])[0][:, *inner]
        return out, None, None
