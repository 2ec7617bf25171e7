"""What a run is: everything that its samples depend on."""

import dataclasses
import hashlib
import json
import types
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ..core.errors import InputError, unknown
from ..samplers import POSTERIOR_SAMPLERS, rebuild_part
from ..samplers.base import Sampler

# The one convention, as it is written into every output.
CONVENTION = "x = x_0 + sigma * noise; noise levels in data units, pictures in [-1, 1]"

# The draws from the conditional law with which rules are compared, by the name beside theirs.
REFERENCE = "reference"


class Recorded:
    """A plan as a JSON file keeps it. A subclass is a frozen dataclass of values that JSON knows.

    Attributes:
        job: The command that carries it out.
        for_people: Fields on which no sample depends.
    """

    job: ClassVar[str]
    for_people: ClassVar[tuple[str, ...]] = ()
    seed: int
    samples: int

    @property
    def seeds(self) -> range:
        """One seed a sample."""
        return range(self.seed, self.seed + self.samples)

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that JSON keeps."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload]
        return content

    def differences(self, other: dict[str, Any]) -> list[str]:
        """The names of the settings in which a plan on disk differs."""
        own = self.as_json()
        return [
            name
            for name, value in own.items()
            if name not in self.for_people and other.get(name) != value
        ]


@dataclass(frozen=True)
class Plan(Recorded):
    """A restoration, in values that a JSON file holds. The same plan gives the same samples.

    Args:
        input_sha256: Of the tensor that is given: the clean picture, or the measurement.
        input_kind: `clean` (the measurement is simulated from it) or `measurement`.
        input_name: Name of the file it came from, for people.
        task: Name of the degradation.
        options: Its settings.
        mask_sha256: Of a mask that came from a file.
        sigma: Noise level in data units.
        data_seed: Seed of the simulated noise, of random masks and of motion kernels.
        prior: Name of the prior.
        prior_sha256: Of its weights.
        size: Height and width, if not those that the prior was trained at.
        label: Class that the prior is given.
        sampler: The sampler's `repr`, which rebuilds it.
        seed: Seed of the first sample; the others count up from it.
        samples: Number of samples.
        chunk: Samples drawn in one batch.
        device: Where they are drawn.
    """

    job: ClassVar[str] = "restore"
    # A file may be moved or renamed between two starts of a run; its content may not change.
    for_people: ClassVar[tuple[str, ...]] = ("input_name",)

    input_sha256: str
    input_kind: str
    input_name: str
    task: str
    options: dict[str, Any]
    mask_sha256: str | None
    sigma: float
    data_seed: int
    prior: str
    prior_sha256: str
    size: tuple[int, int] | None
    label: int | None
    sampler: str
    seed: int
    samples: int
    chunk: int
    device: str


@dataclass(frozen=True)
class Drawing(Recorded):
    """A plan to draw from a tilted law, in values that a JSON file holds. The same plan gives the same samples.

    Args:
        prior: Name of the prior.
        prior_sha256: Of its weights.
        size: Height and width, if not those that the prior was trained at.
        label: The class.
        weight: The power it is raised to.
        samplers: The `repr` of each sampler, which rebuilds it but for its models, by the name of its
            rule; that of the reference is among them.
        models: Names of the other models that they use, by the field that holds them.
        models_sha256: Of their weights.
        judge: Name of the classifier that looks at the samples; None if there is none.
        seed: Seed of the first sample; the others count up from it.
        samples: Number of samples of each sampler.
        reference: Number of draws from the conditional law, whose seeds follow those of the samples.
        chunk: Samples drawn in one batch.
        device: Where they are drawn.
    """

    job: ClassVar[str] = "generate"

    prior: str
    prior_sha256: str
    size: tuple[int, int] | None
    label: int
    weight: float
    samplers: dict[str, str]
    models: dict[str, str]
    models_sha256: dict[str, str]
    judge: str | None
    seed: int
    samples: int
    reference: int
    chunk: int
    device: str

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules, without the reference."""
        return tuple(name for name in self.samplers if name != REFERENCE)

    @property
    def title(self) -> str:
        """The run in a few words."""
        what = self.rules[0] if len(self.rules) == 1 else f"{len(self.rules)} rules"
        return f"label {self.label} of {self.prior}, {what}"

    @property
    def reference_seeds(self) -> range:
        """Seeds of the reference. Others, lest samples be near their reference for the noise they share."""
        first = self.seed + self.samples
        return range(first, first + self.reference)


def sha256(content: bytes) -> str:
    """The hash by which contents are compared."""
    return hashlib.sha256(content).hexdigest()


def choose_sampler(
    name: str, preset: str | None, steps: int | None, settings: dict[str, str]
) -> Sampler[Any]:
    """A sampler by name.

    Args:
        name: In `POSTERIOR_SAMPLERS`.
        preset: Name of published settings.
        steps: Steps of the schedule, if not the sampler's own.
        settings: Further settings by the sampler's own names, each as its `repr`.

    Raises:
        InputError: For an unknown name, or a value that does not suit it.
    """
    if name not in POSTERIOR_SAMPLERS:
        raise unknown("sampler", name, [*POSTERIOR_SAMPLERS, "auto"])
    kind = POSTERIOR_SAMPLERS[name]
    sampler: Sampler[Any] = kind() if preset is None else kind.published(preset)
    changes = {key: setting(sampler, name, key, text) for key, text in settings.items()}
    if steps is not None:
        schedule = changes.get("schedule", sampler.schedule)
        changes["schedule"] = dataclasses.replace(schedule, steps=steps)
    return dataclasses.replace(sampler, **changes)


def settings_of(owner: Any) -> list[str]:
    """The names of a dataclass' fields."""
    return [field.name for field in dataclasses.fields(owner)]


def setting(owner: Any, name: str, key: str, text: str) -> Any:
    """The value of a setting, of the kind that a dataclass' field has.

    Args:
        owner: A sampler, or a part of one.
        name: What it is called.
        key: Name of the field.
        text: The value's `repr`.

    Raises:
        InputError: If there is no such field, or the value does not suit it.
    """
    known = settings_of(owner)
    if key not in known:
        raise unknown(f"setting of {name}", key, known)
    kinds = _alternatives(get_type_hints(type(owner))[key])
    try:
        value = rebuild_part(text)
    except InputError:
        value = text
    if float in kinds and type(value) is int:
        value = float(value)
    if not any(_suits(value, kind) for kind in kinds):
        names = " or ".join(_name(kind) for kind in kinds)
        raise InputError(
            f"{key} takes {names}, such as {getattr(owner, key)!r}; {text!r} is not one."
        )
    return value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The kinds that an annotation allows."""
    return get_args(kind) if get_origin(kind) in {types.UnionType, Union} else (kind,)


def _suits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    plain = get_origin(kind) or kind
    if isinstance(value, bool) and plain is not bool:
        return False
    return isinstance(value, plain)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "None" if kind is types.NoneType else (get_origin(kind) or kind).__name__
