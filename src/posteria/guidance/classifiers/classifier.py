"""What a classifier is: log p(c | x) for every class, of a clean or a noisy signal."""

import abc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...analytic import Gaussian, GaussianMixture
from ...core.errors import CapabilityError, ShapeError, require, whole
from ...core.modules import Mode
from ...core.space import Space


class Classifier(abc.ABC):
    """Logits of classes.

    Attributes:
        space: Of the signals.
        labels: Number of classes.
        noisy: Whether it knows noise levels; a clean one is evaluated on estimates of x_0 only.
    """

    space: Space
    labels: int
    noisy: bool

    @abc.abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """Logits `[*batch, labels]` of signals `[*batch, *event]` at a noise level (0: clean)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.labels} classes, event {self.space.shape})"

    def log_prob(self, label: int, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """Log p(label | x), `[*batch]`.

        Raises:
            InputError: As `known`.
        """
        return self(x, sigma).log_softmax(-1)[..., self.known(label)]

    def known(self, label: int) -> int:
        """The label; `InputError` if it is that of no class."""
        require(
            0 <= label < self.labels,
            f"The classifier knows the labels 0 to {self.labels - 1}; {label} is none of them.",
        )
        return label


class CleanClassifier(Classifier):
    """A function or network of clean signals. Nothing of the network is changed.

    Args:
        logits: Takes `[n, *event]` to `[n, labels]`.
        space: Of the signals.
        labels: Number of classes.

    Raises:
        CapabilityError: If the logits cannot be called.
        InputError: If there are fewer than 2 classes, or it is on another device than the space. When it is
            evaluated: if it is in training mode and draws numbers or looks at its batch then.
        ShapeError: When it is evaluated: if it gives other than one logit a class.
    """

    noisy = False

    def __init__(self, logits: Callable[[Tensor], Tensor], space: Space, labels: int) -> None:
        if not callable(logits):
            raise CapabilityError(
                f"A classifier is a function of signals or a network; this is {type(logits).__name__}."
            )
        labels = whole(labels, "The number of classes of a classifier", 2)
        self._mode = Mode(logits, space.device)
        self.logits, self.space, self.labels = logits, space, labels

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        self._mode.check()
        flat = x.reshape(-1, *self.space.shape)
        out = self.logits(flat)
        if out.shape != (len(flat), self.labels):
            raise ShapeError(
                f"A classifier of {self.labels} classes takes {tuple(flat.shape)} to ({len(flat)}, {self.labels}); "
                f"this one gave {tuple(out.shape)}."
            )
        return out.reshape(*self.space.batch(x), self.labels)


class BayesClassifier(Classifier):
    """The exact p(c | x) of classes whose laws are known, at every noise level.

    Args:
        classes: The law of each class.
        shares: Of the classes, one each; equal by default.
    """

    noisy = True

    def __init__(
        self, classes: Sequence[Gaussian | GaussianMixture], shares: Sequence[float] | None = None
    ) -> None:
        laws = list(classes)
        require(len(laws) >= 2, f"A classifier has at least 2 classes; {len(laws)} were given.")
        self.laws, self.space, self.labels = laws, laws[0].space, len(laws)
        given = torch.tensor([1.0] * len(laws) if shares is None else shares, dtype=torch.float64)
        require(
            len(given) == len(laws) and bool(((given > 0) & given.isfinite()).all()),
            f"Shares are numbers above 0, one for each of {len(laws)} classes; got {shares}.",
        )
        log_shares = (given / given.sum()).log()
        self.log_shares = log_shares.to(self.space.device, self.space.dtype)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        require(not isinstance(sigma, Tensor), "BayesClassifier takes one noise level, a number.")
        laws = [law.noised(float(sigma)) if sigma else law for law in self.laws]
        return torch.stack([law.log_prob(x) for law in laws], -1) + self.log_shares
