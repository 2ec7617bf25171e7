"""Errors of signals in time, in their own units."""

from torch import Tensor

from ..core.errors import ShapeError, require
from ..core.space import real


def paired(
    x: Tensor, truth: Tensor, what: str = "Signals [n, *event]", axes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Samples and the truth of each, `[n, *event]` both, of one for all or one each.

    Args:
        x: The samples.
        truth: `[*event]` or `[n, *event]`.
        what: The samples and their axes, in words.
        axes: Number of axes of the samples, if it is known.

    Raises:
        ShapeError: If they differ in shape.
        InputError: If there is no sample, or they are complex.
    """
    x, truth = real(x, "An array of samples"), real(truth, "A truth")
    if x.ndim != (axes or max(x.ndim, 1)) or truth.shape not in {x.shape, x.shape[1:]}:
        raise ShapeError(
            f"{what} go with a truth {what.partition(' ')[2].replace('n, ', '')} or one each; got "
            f"{tuple(x.shape)} and {tuple(truth.shape)}."
        )
    require(x.numel() > 0, "This metric needs at least 1 sample; got 0.")
    return x, truth.expand_as(x)


def mae(x: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of signals `[n, *event]`, each by itself, `[n]`; the truth is `[*event]`, or one each."""
    x, truth = paired(x, truth)
    return (truth - x.double()).abs().flatten(1).mean(1)


def rmse(x: Tensor, truth: Tensor) -> Tensor:
    """Root mean square error; arguments and values as of `mae`."""
    x, truth = paired(x, truth)
    return (truth - x.double()).square().flatten(1).mean(1).sqrt()
