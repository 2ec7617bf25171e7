"""What a restoration is: everything that its samples depend on."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from ..core.errors import InputError, unknown
from ..samplers import SAMPLERS, rebuild_part
from ..samplers.base import Sampler

# The one convention, as it is written into every output.
CONVENTION = "x = x_0 + sigma * noise; noise levels in data units, pictures in [-1, 1]"


@dataclass(frozen=True)
class Plan:
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

    @property
    def seeds(self) -> range:
        """One seed a sample."""
        return range(self.seed, self.seed + self.samples)

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that JSON keeps."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    def differences(self, other: dict[str, Any]) -> list[str]:
        """The names of the settings in which a plan on disk differs."""
        own = self.as_json()
        # A file may be moved or renamed between two starts of a run; its content may not change.
        own.pop("input_name")
        return [name for name, value in own.items() if other.get(name) != value]


def sha256(content: bytes) -> str:
    """The hash by which contents are compared."""
    return hashlib.sha256(content).hexdigest()


def choose_sampler(
    name: str, preset: str | None, steps: int | None, settings: dict[str, str]
) -> Sampler[Any]:
    """A sampler by name.

    Args:
        name: In `SAMPLERS`.
        preset: Name of published settings.
        steps: Steps of the schedule, if not the sampler's own.
        settings: Further settings by the sampler's own names, each as its `repr`.

    Raises:
        InputError: For an unknown name, or a value that does not suit it.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, [*SAMPLERS, "auto"])
    kind = SAMPLERS[name]
    sampler: Sampler[Any] = kind() if preset is None else kind.published(preset)
    changes = {key: _setting(sampler, name, key, text) for key, text in settings.items()}
    if steps is not None:
        schedule = changes.get("schedule", sampler.schedule)
        changes["schedule"] = dataclasses.replace(schedule, steps=steps)
    return dataclasses.replace(sampler, **changes)


def _setting(sampler: Sampler[Any], name: str, key: str, text: str) -> Any:
    """The value of a setting, of the kind that the sampler's field has."""
    known = [field.name for field in dataclasses.fields(sampler)]
    if key not in known:
        raise unknown(f"setting of {name}", key, known)
    kinds = get_type_hints(type(sampler))[key]
    kinds = get_args(kinds) or (kinds,)
    try:
        value = rebuild_part(text)
    except InputError:
        value = text
    if float in kinds and type(value) is int:
        value = float(value)
    allowed = tuple(get_origin(kind) or kind for kind in kinds)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(kind.__name__ for kind in allowed)
        raise InputError(
            f"{key} takes {names}, such as {getattr(sampler, key)!r}; {text!r} is not one."
        )
    return value
