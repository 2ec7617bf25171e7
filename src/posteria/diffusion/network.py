"""Networks as denoisers, in the coordinate `x = x_0 + sigma * noise`."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from ..core import linalg
from ..core.errors import (
    CapabilityError,
    InputError,
    PosteriaError,
    ShapeError,
    expect,
    require,
    whole,
)
from ..core.level import Level, spreads
from ..core.linalg import LinearMap
from ..core.modules import Mode, dtype_of
from ..core.space import Space
from .denoiser import Condition, Conditional, Denoiser, Label, as_condition
from .parametrisation import Discrete, Parametrisation


class Network(Conditional):
    """Any network as a prior. Nothing of the module is changed: not its mode, its weights or its device.

    Args:
        module: A module or a function, called as `module(x, time)`, or as `module(x, time, label)` if it
            knows labels, with `x` as `[n, *event]` in the dtype of the module's weights (a function: of
            the space), `time` as `[n]` and `label` as integers `[n]`. It returns a tensor like `x`, an
            object with one as `sample`, or a tuple that begins with one; of twice the channels of `x` the
            second half, a learned variance, is left out.
        space: Event shape, and the dtype and device in which samplers work.
        parametrisation: What the network predicts and how it is conditioned on the noise level.
        labels: Number of classes that the network knows, 0 for none.
        null_label: The label that stands for "no label"; None without an unconditional branch.

    Attributes:
        multiple: Of what height and width of a picture are multiples, if any such size will do; 0 if not.
        doubt: Called with the network once, before its first evaluation.

    Raises:
        InputError: If the module is on another device than the space, or labels are no whole numbers. When it is
            evaluated: if it is in training mode and draws numbers or looks at its batch then.
        CapabilityError: If space or parametrisation is something else. When it is evaluated: if it fails, or returns no
            tensor of floating point; when it is differentiated: if its output is not connected to its input, or
            PyTorch cannot.
        ShapeError: When it is evaluated: if its output has another shape.
    """

    multiple: int = 0
    doubt: "Callable[[Network], None] | None" = None

    def __init__(
        self,
        module: Callable[..., Any],
        space: Space,
        parametrisation: Parametrisation,
        *,
        labels: int = 0,
        null_label: int | None = None,
    ) -> None:
        self.module = module
        self.space = expect(space, Space, by=self)
        self.parametrisation = expect(parametrisation, Parametrisation, by=self)
        self.labels = whole(labels, "The number of labels", 0)
        self.label = null_label if null_label is None else whole(null_label, "The null label", 0)
        require(
            null_label is None or self.labels > 0,
            f"A null label is one of a network that knows labels; give labels=..., beside null_label={null_label}.",
        )
        self.dtype = (isinstance(module, nn.Module) and dtype_of(module)) or space.dtype
        self._mode = Mode(module, space.device)
        # A member is one object, so that what is measured of it is measured once.
        self._members: dict[int, Network] = {}

    @override
    def __repr__(self) -> str:
        if self.about:
            return f"Network({self.about})"
        module = getattr(self.module, "__name__", type(self.module).__name__)
        return f"Network({module}, {self.space}, {self.parametrisation!r})"

    @override
    def given(self, condition: Condition | int) -> Denoiser:
        condition = as_condition(condition)
        if not self.labels or not isinstance(condition, Label):
            known = f"Label(0) to Label({self.labels - 1})" if self.labels else "no conditions"
            raise CapabilityError(f"This network cannot be given {condition!r}; it knows {known}.")
        label = condition.label
        if not 0 <= label < self.labels:
            raise InputError(
                f"The label is an integer from 0 to {self.labels - 1}; {label} is not."
            )
        if label not in self._members:
            member = self._members[label] = copy.copy(self)
            member.label, member.scale = label, None
        return self._members[label]

    @override
    def unconditional(self) -> Denoiser:
        if self.labels and self.label is None:
            raise CapabilityError(
                "This network has no unconditional branch, which a power of a label needs; use prior.given(Label(k)), "
                "or --weight 1 on the command line."
            )
        return self

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        time, (scale, skip, out) = self._levels(x, sigma)
        scaled = scale * x
        output = self._evaluate(scaled, time)
        if torch.is_grad_enabled():
            linalg.connected(output, scaled, WHAT)
        return _combined(skip, x, out, output)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        time, (scale, skip, out) = self._levels(x, sigma)
        # Of the network alone: `skip * x` would stay connected to x where the network is not.
        output, pullback = linalg.vjp(lambda z: self._evaluate(z, time), scale * x, WHAT)

        def transposed(v: Tensor) -> Tensor:
            v_out, unit = _by(out, v), None
            if self.dtype == torch.float16:
                # Within the range of half precision, whatever the cotangent. The factor is a power
                # of two, so that nothing is rounded.
                unit = self._unit(v_out)
                v_out = v_out / unit
            try:
                pulled = pullback(v_out)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, AttributeError) as error:
                raise CapabilityError(
                    f"{WHAT} cannot be differentiated ({type(error).__name__}: {str(error).partition(chr(10))[0]}). "
                    "If it computes activations again by a function of its own, as that of guided-diffusion does, "
                    "switch that off (use_checkpoint=False), or load its weights as adm:FILE.pt."
                ) from error
            return _combined(skip, v, scale, pulled if unit is None else pulled * unit)

        return _combined(skip, x, out, output), transposed

    def _unit(self, v: Tensor) -> Level:
        """A power of two like the largest entry of each sample."""
        largest = self.space.flatten(v).abs().amax(-1)
        exponent = largest.clamp(min=torch.finfo(v.dtype).tiny).log2().ceil()
        return self.space.per_sample(exponent.exp2())

    def _levels(self, x: Tensor, sigma: Level) -> tuple[Level, tuple[Level, ...]]:
        """The time, in double precision, and `scale`, `skip` and `out` for `x`."""
        self.unconditional()
        if x.shape[x.ndim - len(self.space.shape) :] != self.space.shape:
            self.space.check(x, "x")
        if self.doubt is not None:
            doubt, self.doubt = self.doubt, None
            doubt(self)
        if not isinstance(sigma, Tensor):
            return self.parametrisation.at(sigma)
        time, coefficients = self.parametrisation.at(sigma.double())
        return time, spreads(coefficients, self.space, x)

    def _evaluate(self, x: Tensor, time: Level) -> Tensor:
        """The network itself, `[*batch, *event]` to the same."""
        flat = x.reshape(-1, *self.space.shape).to(self.dtype)
        arguments = [flat, self._times(flat, time, x)]
        if self.labels:
            arguments.append(torch.full_like(arguments[1], self.label or 0, dtype=torch.long))
        output = self._called(arguments)
        if not output.is_floating_point():
            raise CapabilityError(
                f"The network returned numbers of {output.dtype}; a clean signal, or what is predicted of it, is of "
                f"floating point. {TRY}"
            )
        if self.space.shape and output.shape[1:2] == (2 * flat.shape[1],):
            output = output[:, : flat.shape[1]]
        if output.shape != flat.shape:
            raise ShapeError(
                f"The network gave {tuple(output.shape)} for an input of {tuple(flat.shape)}; its output has "
                f"the shape of its input, or twice its channels. {TRY}"
            )
        return output.to(x.dtype).reshape(x.shape)

    def _times(self, flat: Tensor, time: Level, x: Tensor) -> Tensor:
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        if isinstance(self.parametrisation, Discrete) and self.parametrisation.whole:
            dtype = torch.long
        if isinstance(time, Tensor):
            if time.numel() != len(flat):
                time = time.expand(self.space.batch(x))
            return time.reshape(-1).to(flat.device, dtype)
        return torch.full((len(flat),), time, dtype=dtype, device=flat.device)

    def _called(self, arguments: list[Tensor]) -> Tensor:
        if self._mode.layers:
            self._mode.check()
        try:
            output = self.module(*arguments)
        except (PosteriaError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if "Inference tensor" in str(error):
                raise
            # Which of them a network raises is its own affair; the sentence has it in full, with what was given.
            given = ", ".join(
                f"{name} {tuple(a.shape)} in {str(a.dtype).removeprefix('torch.')}"
                for name, a in zip(("x", "time", "label"), arguments, strict=False)
            )
            reason = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
            raise CapabilityError(
                f"The network failed when it was called with {given} in this order ({reason.splitlines()[0]}). "
                f"Give Network a function with these arguments that calls it. {TRY}"
            ) from error
        return tensor_of(output).to(arguments[0].device)


WHAT = "This network"
TRY = "posteria.testing.check_denoiser(prior) tries what a sampler will ask."


def _by(factor: Level, x: Tensor) -> Tensor:
    """`factor * x`, which is `x` itself for 1."""
    return factor * x if isinstance(factor, Tensor) or factor != 1 else x


def _combined(a: Level, x: Tensor, b: Level, y: Tensor) -> Tensor:
    """`a * x + b * y`, without the products by 0 and 1 that cost a lean network as much as it does itself."""
    if not isinstance(a, Tensor) and a == 0:
        return _by(b, y)
    if not isinstance(b, Tensor) and b == 0:
        return _by(a, x)
    return _by(a, x) + _by(b, y)


def tensor_of(output: Any) -> Tensor:
    """The tensor in what a network returns.

    Raises:
        CapabilityError: If there is none, or several and none of them is `sample`.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("sample", next(iter(output.values())) if len(output) == 1 else None)
    elif isinstance(output, tuple | list):
        found = output[0] if output else None
    elif not isinstance(output, Tensor):
        found = getattr(output, "sample", output)
    if isinstance(found, Tensor | np.ndarray):
        return torch.as_tensor(found)
    names = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise CapabilityError(
        f"The network returned a {type(output).__name__}{names}, in which posteria finds no output; a network "
        "returns a tensor, an object with one as `sample`, or a tuple that begins with one. Give Network a "
        f"function that does. {TRY}"
    )
