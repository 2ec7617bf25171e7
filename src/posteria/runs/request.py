"""What a person asks for. Once it is checked it is the record of a run: the same request gives the same samples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from typing_extensions import override

from ..core.errors import InputError
from ..core.record import as_json, from_json
from .usual import DEMONSTRATION, GENERAL, LEFT_OUT, PHOTOGRAPHS, PRIORS, SAMPLERS

# Seeds are below it.
SEEDS = 2**32
# The highest level of noise whose square is far from the end of single precision, in data units.
LOUDEST = 1e9
# The sampler that is chosen by what is measured.
AUTO = "auto"
# The noise level that is that of the modality.
USUAL: Literal["usual"] = "usual"
# Options of tasks that may name a file.
FILES = ("mask", "kernel")
# Draws from the conditional law with which rules are compared, by the name beside theirs.
REFERENCE = "reference"
# In place of a rule: draws from the prior itself.
UNCONDITIONAL = "unconditional"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every command takes.

    What is left open is filled in when the request is prepared: seeds, defaults, the sampler as its `repr`, the
    hashes of what it reads.

    Args:
        prior: Name of the prior.
        size: Height and width, or the length of a signal, if not those that the prior was trained at.
        label: Class that the prior is conditioned on.
        prompt: Text that it is conditioned on, in place of a class.
        negative: Text that stands for no condition.
        fast: Ways in which the network is evaluated faster, of those of `posteria.priors.faster`, or in less memory.
        steps: Steps of the noise schedule, if not the sampler's own.
        settings: Further settings by name, each as its `repr`.
        samples: Number of samples.
        seed: Seed of the first sample; the others count up from it.
        chunk: Samples drawn in one batch; what an earlier attempt had, or `batch`. `auto`: as many as memory allows.
        device: Where they are drawn.
        hashes: SHA-256 of the input and the weights; those of a record have to be those that are found.

    Attributes:
        command: The command that carries it out.
        batch: The default of `chunk`.
        free: Fields on which no sample depends; a file may be moved or renamed, its content may not change.
        grows: Fields that may be larger when a run goes on.
    """

    command: ClassVar[str]
    batch: ClassVar[int] = 8
    free: ClassVar[frozenset[str]] = frozenset()
    grows: ClassVar[tuple[str, ...]] = ("samples",)

    prior: str = "digits"
    size: tuple[int, ...] | None = None
    label: int | None = None
    prompt: str | None = None
    negative: str | None = None
    fast: tuple[str, ...] = ()
    steps: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    samples: int = 8
    seed: int = 0
    chunk: int | Literal["auto"] | None = None
    device: str = "cpu"
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def at_once(self) -> int:
        """Samples drawn in one batch, as far as it is known."""
        return self.chunk if isinstance(self.chunk, int) else self.batch

    @property
    def given(self) -> str:
        """What the prior is conditioned on, in words."""
        if self.prompt is not None:
            return f"the text {self.prompt!r}"
        return "" if self.label is None else f"label {self.label}"

    def check(self) -> None:
        """Raise `InputError` for what is wrong whatever the prior is; loads nothing."""
        # A record's fields are of their types; so are those of who makes a request in Python.
        from_json(type(self), vars(self))
        if self.samples < 1 or self.at_once < 1:
            raise InputError("The numbers of samples and of samples in a chunk are at least 1.")
        if self.prompt is not None and self.label is not None:
            raise InputError("A prior is given --label or --prompt, not both.")
        if self.size is not None and min(self.size, default=0) < 1:
            raise InputError(f"--size is of sides of at least 1; {self.size} is not.")
        if self.negative is not None and self.prompt is None:
            raise InputError("--negative is what a --prompt is set against; give that too.")
        if getattr(self, "weight", None) != getattr(type(self), "weight", None) and not self.given:
            raise InputError("--weight is the power of a --label or a --prompt; give one.")
        last = self.drawn_seeds[-1]
        if self.seed < 0 or last >= SEEDS:
            raise InputError(
                f"A seed is an integer from 0 to below 2^32; these are {self.seed} to {last}."
            )

    @property
    def power(self) -> float:
        """The power of the condition in what is sampled."""
        return 1.0

    @property
    def seeds(self) -> range:
        """One seed a sample."""
        return range(self.seed, self.seed + self.samples)

    @property
    def drawn_seeds(self) -> range:
        """All seeds of the run."""
        return self.seeds

    def identified(self, found: Mapping[str, str]) -> Self:
        """The request with the hashes that were found.

        Raises:
            InputError: If it is a record with other ones.
        """
        for name, value in self.hashes.items():
            if found.get(name) != value:
                raise InputError(
                    f"The record was made with {described(name)} of SHA-256 {value[:12]}..., and there is now "
                    f"one of {found.get(name, 'nothing')[:12]}...."
                )
        return replace(self, hashes=dict(found))

    def law(self) -> dict[str, Any]:
        """The fields on which the law of a sample depends."""
        fields: dict[str, Any] = as_json(self)
        return {k: v for k, v in fields.items() if k not in {*self.free, *self.grows}}

    def differences(self, other: "Request") -> list[str]:
        """What makes another run of it."""
        own, theirs = self.law(), other.law()
        names = [name for name in own if name != "hashes" and own[name] != theirs[name]]
        changed = {name for name, _ in self.hashes.items() ^ other.hashes.items()}
        return names + [described(name) for name in sorted(changed)]

    def repeated(self, folder: Path) -> Self:
        """The request to repeat a run whose results are in a folder."""
        return self


def described(name: str) -> str:
    """What a hash is of."""
    if name in {"weak", "tuned"}:
        return f"weights of the {name} prior"
    return f"weights of the {name}" if name in {"prior", "classifier"} else name


def existing(paths: Iterable[str | None]) -> None:
    """Raise `InputError` unless there are these files."""
    for path in paths:
        if path is not None and not Path(path).exists():
            raise InputError(f"There is no file {path}.")


@dataclass(frozen=True, kw_only=True)
class Measured(Request):
    """A request for samples of a posterior.

    Args:
        task: Name of the measurement in the prior's modality; empty if none was named.
        options: Settings of the task by name.
        sigma: Standard deviation of the noise in data units; None: estimated from the measurement; `USUAL`: what is
            usual for the kind of data.
        sampler: Its name, its `repr`, or `auto`.
        preset: Name of published settings.
        budget: Evaluations and vjps of the prior per sample, from which the steps follow.
        data_seed: Seed of simulated noise and of what the task draws.
    """

    task: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sigma: float | Literal["usual"] | None = USUAL
    sampler: str = "mgdm"
    preset: str | None = None
    budget: int | None = None
    data_seed: int | None = None

    @override
    def check(self) -> None:
        super().check()
        files = (str(self.options.get(name, "")) for name in FILES)
        existing(file for file in files if Path(file).suffix)
        if isinstance(self.sigma, int | float) and not 0 < self.sigma <= LOUDEST:
            raise InputError(
                f"--sigma is a noise level above 0 in data units (pictures span [-1, 1]), at most {LOUDEST:g}; "
                f"{self.sigma:g} is not."
            )
        if self.data_seed is not None and not 0 <= self.data_seed < SEEDS:
            raise InputError(
                f"--data-seed is an integer from 0 to below 2^32; {self.data_seed} is not."
            )
        if self.budget is not None and self.steps is not None:
            raise InputError("Give --steps or --budget, not both: a budget sets the steps.")
        if self.sampler == AUTO and (self.preset or self.steps or self.settings):
            raise InputError(
                "--sampler auto chooses the settings as well; give it a --budget, or name a sampler."
            )

    def expect_level(self) -> None:
        """Raise `InputError` if there is no level of the noise of measurements that are simulated."""
        if self.sigma is None:
            raise InputError(
                "--sigma auto estimates the noise of a measurement; to simulate one say how much is added."
            )

    @override
    def law(self) -> dict[str, Any]:
        law = super().law()
        law["options"] = {k: v for k, v in law["options"].items() if k not in self.hashes}
        return law

    def settled(self, sampler: object) -> Self:
        """The request with the sampler that was chosen, as its `repr`, in place of what it was chosen by."""
        kind = self.device.partition(":")[0]
        left: dict[str, Any] = dict.fromkeys(("preset", "budget", "steps"))
        return replace(self, sampler=repr(sampler), settings={}, device=kind, **left)

    def posterior(self) -> dict[str, Any]:
        """What a certificate is of: prior, measurement, noise and sampler."""
        names = ("size", "label", "prompt", "negative", "fast", "options", "sigma", "sampler")
        law, hashes = self.law(), {k: v for k, v in self.hashes.items() if k != "input"}
        told = {"task": self.task, "power": self.power, "hashes": hashes}
        return {**{name: law[name] for name in names}, **told}

    @override
    def repeated(self, folder: Path) -> Self:
        kept = str(folder / "input.npz")
        files = {name: kept for name in self.options if name in self.hashes}
        return replace(self, options={**self.options, **files})


@dataclass(frozen=True, kw_only=True)
class Restore(Measured):
    """To restore a signal from a measurement; see `posteria restore --help`.

    Args:
        input: A file with the measurement. None: a demonstration, with a picture that ships with the prior.
        simulate: Whether the input is clean, and the measurement is simulated from it.
        fit: Convert the input to what the prior takes.
        prior: Empty: that of such files, which is `photo` unless they are in `PRIORS`.
        sampler: Its name, its `repr`, or `auto`. Empty: that of the prior in `SAMPLERS`, or `mgdm`.
        certificate: A folder of `posteria certify`, or one with several of them.
        weight: The power of the class or the text.
    """

    command: ClassVar[str] = "restore"
    free: ClassVar[frozenset[str]] = frozenset({"input", "fit", "certificate"})

    prior: str = ""
    sampler: str = ""
    input: str | None = None
    simulate: bool = False
    fit: bool = False
    certificate: str | None = None
    weight: float = 1.0

    @override
    def check(self) -> None:
        super().check()
        existing([self.input, self.certificate])

    @property
    @override
    def power(self) -> float:
        return self.weight

    def named(self) -> Self:
        """The request with its prior, task and sampler where it names none; a task is not guessed for an input."""
        kind = PRIORS.get(Path(self.input or "").suffix.lower(), PHOTOGRAPHS)
        named = replace(self, prior=self.prior or kind)
        if self.input is None:
            task = DEMONSTRATION["task"] if named.prior == DEMONSTRATION["prior"] else ""
            named = replace(named, task=self.task or task, simulate=True)
        if named.simulate:
            named.expect_level()
        if named.sampler:
            return named
        usual = SAMPLERS.get((named.prior, named.task)) or SAMPLERS.get(named.prior)
        if usual is None or named.task in LEFT_OUT.get(named.prior, ()):
            return replace(named, sampler=GENERAL)
        # Steps are counted anew for other settings, and settings kept for other steps.
        own = {"settings", "steps"} if self.settings or self.preset else set()
        if {self.steps, self.budget} != {None}:
            own.add("steps")
        return replace(named, **{key: usual[key] for key in usual.keys() - own})

    @override
    def repeated(self, folder: Path) -> Self:
        kept = str(folder / "input.npz")
        return replace(super().repeated(folder), input=kept, fit=False, certificate=None)


@dataclass(frozen=True, kw_only=True)
class Certify(Measured):
    """To certify a sampler by simulations; see `posteria certify --help`.

    Args:
        samples: Samples that each truth is ranked among.
        simulations: Truths that are drawn.
        statistics: Names of what is ranked; by default all there is.
        levels: Levels to which signals are rounded before they are ranked; 0 is none, and the default 256 for pictures.
        truth_steps: Steps of the solver that draws truths.
        chunk: Samples drawn in one batch, about; a simulation is never cut.
    """

    command: ClassVar[str] = "certify"
    batch: ClassVar[int] = 64
    grows: ClassVar[tuple[str, ...]] = ("simulations",)
    free: ClassVar[frozenset[str]] = frozenset({"statistics", "levels"})

    task: str = "inpaint"
    samples: int = 19
    simulations: int = 100
    statistics: tuple[str, ...] = ()
    levels: int | None = None
    truth_steps: int = 64

    @property
    @override
    def drawn_seeds(self) -> range:
        return range(self.seed, self.seed + max(self.simulations, 1) * self.samples)

    @override
    def check(self) -> None:
        super().check()
        self.expect_level()
        if self.truth_steps < 1:
            raise InputError(
                f"--truth-steps is a number of at least 1; {self.truth_steps} is not."
            )


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """To draw from p(x | label)^weight p(x)^(1 - weight), or from the prior; see `posteria generate --help`.

    Args:
        rules: Names of rules or samplers, or `unconditional`.
        weight: The power of the label.
        solver: Name of a solver; by default what suits the rule.
        weak: Name of a weaker prior, for rules that push away from one.
        tuned: Name of a tuned prior, for rules that follow one.
        classifier: Name of a classifier that judges the samples, and guides; by default the prior's own.
        reference: Draws from the conditional law to compare with; their seeds follow those of the samples.
        samplers: The `repr` of each rule's sampler, without its models, in place of `solver`, `steps` and `settings`.
    """

    command: ClassVar[str] = "generate"
    batch: ClassVar[int] = 16
    grows: ClassVar[tuple[str, ...]] = ("samples", "reference")

    rules: tuple[str, ...] = ("cfg",)
    weight: float = 2.0
    solver: str | None = None
    weak: str | None = None
    tuned: str | None = None
    classifier: str | None = None
    samples: int = 16
    reference: int | None = None
    samplers: dict[str, str] = field(default_factory=dict)

    @override
    def check(self) -> None:
        super().check()
        if (self.reference or 0) < 0:
            raise InputError("--reference is a number of at least 0.")
        if self.classifier is not None and self.label is None:
            raise InputError("--classifier says which samples show a --label; give that too.")
        names = [*self.rules, *[REFERENCE] * bool(self.reference)]
        if not self.rules or (self.samplers and [*self.samplers] != names):
            raise InputError(
                "The samplers of a run are those of its rules; these are of "
                f"{', '.join(self.samplers) or 'none'}, and the rules are {', '.join(names) or 'none'}."
            )

    @property
    def reference_seeds(self) -> range:
        """Seeds of the reference, disjoint from the samples' seeds, so that they share no noise."""
        first = self.seed + self.samples
        return range(first, max(first, first + (self.reference or 0)))

    @property
    @override
    def drawn_seeds(self) -> range:
        return range(self.seed, self.reference_seeds.stop)
