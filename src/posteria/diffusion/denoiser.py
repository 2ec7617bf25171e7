"""What a prior is: a denoiser, the posterior mean of the clean signal."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import Tensor
from typing_extensions import override

from ..core import linalg
from ..core.errors import CapabilityError, InputError, expect, whole
from ..core.linalg import LinearMap
from ..core.meter import Meter
from ..core.space import Space


@dataclass(frozen=True, eq=False)
class Scale:
    """Location `[*event]` and spread of a prior: the root of the variance of an entry, in the mean over entries."""

    mean: Tensor
    std: float


class Denoiser(abc.ABC):
    """A prior as `D(x, sigma) = E[x_0 | x]` where `x = x_0 + sigma * noise`.

    Attributes:
        scale: Its location and spread where they are known; `scale.prior_scale` measures them else.
    """

    space: Space
    scale: Scale | None = None

    @abc.abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoise.

        Args:
            x: `[*batch, *event]`.
            sigma: Noise level in data units, a float or `[*batch]`.

        Returns:
            E[x_0 | x], `[*batch, *event]`.
        """

    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """E[x_0 | x] and the map `v -> J^T v` of its Jacobian."""
        return linalg.vjp(lambda z: self(z, sigma), x, type(self).__name__)

    def vjp_once(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        """As `vjp`, with a map that is called once at most, and holds less memory."""
        # As `called_once`, without its calls, which are once an evaluation here.
        token = linalg.ONCE.set(True)
        try:
            return self.vjp(x, sigma)
        finally:
            linalg.ONCE.reset(token)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The gradient of the log-density of `x = x_0 + sigma * noise`, by Tweedie's formula."""
        return (self(x, sigma) - x) / self.space.per_sample(sigma) ** 2

    @property
    def base(self) -> "Denoiser":
        """The prior itself, without what counts or watches it."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(event {self.space.shape})"


@dataclass(frozen=True)
class Condition:
    """What a conditional prior can be given."""


@dataclass(frozen=True)
class Label(Condition):
    """A class, by its number, which may be a tensor or an array without axes."""

    label: int

    def __post_init__(self) -> None:
        # A network would be given a fraction without what is behind the point.
        given: Any = self.label
        number = given.item() if getattr(given, "ndim", None) == 0 else given
        object.__setattr__(self, "label", whole(number, "A label", 0))


def as_condition(given: Any) -> Condition:
    """The `Label` of a bare number; anything else as it is."""
    bare = isinstance(given, Integral) or getattr(given, "ndim", None) == 0
    condition: Condition = Label(given) if bare else given
    return condition


class Conditional(Denoiser):
    """A family of priors; as a denoiser it is the unconditional member.

    Attributes:
        labels: Number of classes that it knows as `Label`, 0 if none.
        about: What it is, in a line, if that is known.
    """

    labels: int = 0
    about: str = ""

    @abc.abstractmethod
    def given(self, condition: Condition | int) -> Denoiser:
        """The member for `condition`; a bare number stands for `Label` of it.

        Raises:
            CapabilityError: If the family knows no conditions of that kind.
            InputError: If it has no such member.
        """

    def unconditional(self) -> Denoiser:
        """The member without a condition.

        Raises:
            CapabilityError: If there is none.
        """
        return self


class Members(Conditional):
    """A family whose unconditional member, by which it denoises, is a denoiser of its own."""

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.unconditional()(x, sigma)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        return self.unconditional().vjp(x, sigma)


class Around(Conditional):
    """A prior that stands for another one, and whose members stand for those of the other.

    Args:
        prior: The other.
    """

    def __init__(self, prior: Denoiser) -> None:
        self.prior, self.space = expect(prior, Denoiser, by=self), prior.space
        self.labels, self.about = getattr(prior, "labels", 0), getattr(prior, "about", "")
        self._members: dict[Condition, Denoiser] = {}

    @abc.abstractmethod
    def around(self, member: Denoiser) -> Conditional:
        """What stands for a member of the other."""

    @override
    def given(self, condition: Condition | int) -> Denoiser:
        condition = as_condition(condition)
        family = expect(self.prior, Conditional, by=f"A prior given {condition}")
        if condition not in self._members:
            self._members[condition] = self.around(family.given(condition))
        return self._members[condition]

    @override
    def unconditional(self) -> Denoiser:
        if isinstance(self.prior, Conditional):
            self.prior.unconditional()
        return self


class Family(Members):
    """A conditional prior made of given denoisers, one for each condition.

    Args:
        unconditional: The member without a condition; None if there is none.
        members: The others; a bare number stands for `Label` of it.

    Raises:
        InputError: If there is no member, or a key is neither a condition nor a whole number.
        CapabilityError: If a member is no denoiser.
        ShapeError: If members draw signals of different shapes; `InputError` for different dtypes.
    """

    def __init__(
        self, unconditional: Denoiser | None, members: Mapping[Condition | int, Denoiser]
    ) -> None:
        if not members:
            raise InputError("A family has at least one member with a condition; none was given.")
        self.members = {
            key if isinstance(key, Condition) else Label(key): expect(member, Denoiser, by=self)
            for key, member in members.items()
        }
        self._unconditional = unconditional
        self.space = next(iter(self.members.values())).space
        every = [*self.members.values(), *([] if unconditional is None else [unconditional])]
        for member in every:
            self.space.expect(member.space, "A member of the family draws")

    @override
    def given(self, condition: Condition | int) -> Denoiser:
        condition = as_condition(condition)
        if condition not in self.members:
            known = ", ".join(map(str, self.members))
            raise InputError(f"There is no member for {condition}; this family has {known}.")
        return self.members[condition]

    @override
    def unconditional(self) -> Denoiser:
        if self._unconditional is None:
            raise CapabilityError(
                "This family has no unconditional member; give it one: Family(unconditional, members)."
            )
        return self._unconditional


class Counted(Conditional):
    """A prior that counts the signals that it and its members evaluate.

    Args:
        prior: The prior.
        meter: Where to count; by default on its own.
    """

    def __init__(self, prior: Denoiser, meter: Meter | None = None) -> None:
        self.prior = prior
        self.space = prior.space
        self.meter = Meter() if meter is None else meter

    @property
    @override
    def base(self) -> Denoiser:
        return self.prior.base

    @override
    def given(self, condition: Condition | int) -> Denoiser:
        condition = as_condition(condition)
        family = expect(self.prior, Conditional, by=f"A prior given {condition}")
        return Counted(family.given(condition), self.meter)

    @override
    def unconditional(self) -> Denoiser:
        family = expect(self.prior, Conditional, by="The unconditional member")
        return Counted(family.unconditional(), self.meter)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.meter.forward += self.space.batch(x).numel()
        return self.prior(x, sigma)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        self.meter.forward += self.space.batch(x).numel()
        x0, pullback = self.prior.vjp(x, sigma)

        def counted(v: Tensor) -> Tensor:
            self.meter.backward += self.space.batch(v).numel()
            return pullback(v)

        return x0, counted
