"""Draw from a prior with a label raised to a power: from a request to a folder of results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CapabilityError, InputError
from ..core.rng import Rng
from ..core.space import Space
from ..diffusion.denoiser import Label
from ..diffusion.network import Network
from ..guidance import CFG
from ..guidance.classifiers.classifier import CleanClassifier
from ..guidance.classifiers.classifier_guidance import classified
from ..priors import load_prior, prior_sha256
from ..priors.classifier import CLASSIFIERS
from ..samplers import Guided, PosteriorSampler, rebuild_sampler
from ..samplers.base import Sampler
from ..target import Posterior, Tilted
from .engine import Chunk, Cost, chunks, device_of, draw
from .generate_results import Results, summarise
from .models import MODELS, Models, load_judge, sha256_of, wants
from .plan import REFERENCE, Drawing
from .record import finished, job_of, read_record
from .rules import check, choose_rules, fitted, unfitted
from .store import Store

# Draws the reference: the conditional law itself.
CONDITIONAL = Guided(rule=CFG(weight=1.0))


@dataclass(frozen=True)
class Request:
    """What a user asks for; see `posteria generate --help`.

    `samplers` holds the `repr` of samplers by name, in place of `rules` and their settings.
    """

    rules: tuple[str, ...] = ("cfg",)
    prior: str = "digits"
    size: tuple[int, int] | None = None
    label: int | None = None
    weight: float = 2.0
    solver: str | None = None
    steps: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    weak: str | None = None
    tuned: str | None = None
    classifier: str | None = None
    samplers: dict[str, str] | None = None
    samples: int = 16
    reference: int | None = None
    seed: int = 0
    chunk: int = 16
    device: str = "cpu"


@dataclass(frozen=True)
class Method:
    """One of the ways in which a label is raised to a power.

    Args:
        sampler: With its models.
        target: The tilted law, or the prior tilted by a classifier.
        seeds: One a sample.
    """

    sampler: Sampler[Any]
    target: Tilted | Posterior
    seeds: range


@dataclass(frozen=True)
class Job:
    """Draws that are ready to be made: everything has been checked.

    Args:
        plan: What is drawn.
        methods: By the name of their rule; the reference is the last.
        space: Of the samples.
        judge: The classifier that looks at the samples, if there is one.
        spent: What other models than the prior have cost so far.
    """

    plan: Drawing
    methods: Mapping[str, Method]
    space: Space
    judge: CleanClassifier | None
    spent: Callable[[], Cost]

    @property
    def judged(self) -> list[str]:
        """The rules that are guided by the classifier that judges them."""
        same = (
            self.plan.judge is not None and self.plan.models.get("classifier") == self.plan.judge
        )
        return [
            name
            for name, method in self.methods.items()
            if same
            and (isinstance(method.target, Posterior) or wants(method.sampler, "classifier"))
        ]


def prepare(request: Request) -> Job:
    """Check a request and load what it needs.

    Raises:
        PosteriaError: With a sentence on what is wrong and what to do.
    """
    several = len(request.rules) > 1
    reference = request.reference
    if reference is None:
        reference = request.samples if several else 0
    if request.samples < 1 or request.chunk < 1 or reference < 0:
        raise InputError(
            "The numbers of samples and of samples in a chunk are at least 1, and --reference at least 0."
        )
    if request.samplers is None:
        samplers = choose_rules(request.rules, request.solver, request.steps, request.settings)
        samplers |= {REFERENCE: CONDITIONAL} if reference else {}
    else:
        samplers = {name: rebuild_sampler(text) for name, text in request.samplers.items()}
    device = device_of(request.device)
    prior = load_prior(request.prior, device=device, size=request.size)
    label = _label(request, prior)
    target = Tilted(prior, Label(label), request.weight)
    named = _models(request, samplers)
    models = Models(named, target, request.size)
    plan = Drawing(
        prior=request.prior,
        prior_sha256=prior_sha256(request.prior),
        size=request.size,
        label=label,
        weight=request.weight,
        samplers={name: repr(sampler) for name, sampler in samplers.items()},
        models=named,
        models_sha256=models.sha256,
        judge=_classifier(request),
        seed=request.seed,
        samples=request.samples,
        reference=reference,
        chunk=min(request.chunk, max(request.samples, reference)),
        device=torch.device(device).type,
    )
    Rng([request.seed, (plan.reference_seeds or plan.seeds)[-1]])
    methods = {
        name: Method(
            models.into(sampler),
            _target_of(sampler, target, models),
            plan.reference_seeds if name == REFERENCE else plan.seeds,
        )
        for name, sampler in samplers.items()
    }
    for method in methods.values():
        _check(method, models)
    judge = None if plan.judge is None else load_judge(plan.judge, target.space)
    return Job(plan, methods, target.space, judge, models.spent)


def _check(method: Method, models: Models) -> None:
    """Raise if a method cannot be used, with the options that name the models it may miss."""
    try:
        check(method.sampler, method.target, method.seeds)
    except CapabilityError as error:
        absent = [m for m in MODELS if wants(method.sampler, m) and m not in models.sha256]
        if not absent:
            raise
        options = " and ".join(f"--{model}" for model in absent)
        raise CapabilityError(
            f"{error} On the command line models are named by {options}."
        ) from error


def _target_of(sampler: Sampler[Any], target: Tilted, models: Models) -> Tilted | Posterior:
    """What a sampler draws from; a sampler of posteriors takes the classifier's word for the label."""
    if not isinstance(sampler, PosteriorSampler):
        return target
    if models.classifier is None:
        raise CapabilityError(
            f"{type(sampler).__name__} is guided by a classifier of clean pictures; name one with --classifier."
        )
    return classified(target, models.classifier)


def _label(request: Request, prior: Network) -> int:
    """The label; a prior without any has nothing to be guided by."""
    if not prior.labels:
        raise CapabilityError(
            f"The prior {request.prior!r} knows no labels, so that there is nothing to guide it by; "
            "choose one that does (`posteria list priors`)."
        )
    if request.label is None:
        raise InputError(
            f"Say what to draw with --label: the prior {request.prior!r} knows 0 to {prior.labels - 1}."
        )
    return request.label


def _classifier(request: Request) -> str | None:
    """The name of the classifier: the one asked for, or the one that ships for this prior."""
    if request.classifier is not None or request.prior not in CLASSIFIERS or request.size:
        return request.classifier
    return request.prior


def _models(request: Request, samplers: Mapping[str, Sampler[Any]]) -> dict[str, str]:
    """The names of the models that the samplers use."""
    given = {
        "weak": request.weak,
        "tuned": request.tuned,
        "classifier": _classifier(request),
    }
    wanted = {model for model in MODELS for sampler in samplers.values() if wants(sampler, model)}
    if any(isinstance(sampler, PosteriorSampler) for sampler in samplers.values()):
        wanted.add("classifier")
    for model in ("weak", "tuned"):
        if given[model] is not None and model not in wanted:
            rules = ", ".join(name for name in samplers if name != REFERENCE)
            raise InputError(f"Nothing in this run ({rules}) uses the model of --{model}.")
    return {model: name for model, name in given.items() if model in wanted and name is not None}


def run(job: Job, store: Store, advance: Callable[[int, int], None]) -> tuple[Results, bool]:
    """Draw the samples, or go on where an earlier attempt was killed, and write the results; see `restore.run`."""

    def work() -> Results:
        ready = _fit_all(job, store)
        return summarise(ready, *_draw_all(ready, store, advance), store)

    return finished(store, job.plan, Results.from_record, work)


def _fit_all(job: Job, store: Store) -> Job:
    """The job, with coefficients for the rules that need some; they are kept beside the results."""
    methods = dict(job.methods)
    for name, method in methods.items():
        if unfitted(method.sampler) and isinstance(method.target, Tilted):
            kept = store.read_json(f"{name}.json")
            if kept is None:
                kept = repr(fitted(method.sampler, method.target))
                store.write_json(f"{name}.json", kept)
            methods[name] = replace(method, sampler=rebuild_sampler(kept))
    return replace(job, methods=methods)


def _draw_all(
    job: Job, store: Store, advance: Callable[[int, int], None]
) -> tuple[dict[str, Tensor], dict[str, Cost]]:
    """The samples and the cost of each sampler, and of the reference."""
    work: list[tuple[str, Chunk]] = []
    for name, method in job.methods.items():
        for part in chunks(method.sampler, method.seeds, job.plan.chunk):
            work.append((name, Chunk(len(work), part.seeds)))
    steps = {name: len(method.sampler.moves()) for name, method in job.methods.items()}
    total, done = sum(steps[name] for name, _ in work), 0
    drawn: dict[str, list[tuple[Tensor, Cost]]] = {name: [] for name in job.methods}
    for name, part in work:

        def step(_: Chunk, count: int, before: int = done) -> None:
            advance(before + count, total)

        method = job.methods[name]
        drawn[name].append(draw(method.sampler, method.target, [part], store, step, job.spent))
        done += steps[name]
    samples = {name: torch.cat([x for x, _ in parts]) for name, parts in drawn.items()}
    return samples, {name: _mean_cost(parts) for name, parts in drawn.items()}


def _mean_cost(parts: list[tuple[Tensor, Cost]]) -> Cost:
    """The mean cost of a sample, and the seconds of all."""
    n = sum(len(x) for x, _ in parts)

    def mean(what: str) -> float:
        total: float = sum(len(x) * getattr(cost, what) for x, cost in parts)
        return total / n if total % n else total // n

    seconds = sum(cost.seconds for _, cost in parts)
    return Cost(mean("forward"), mean("backward"), mean("operator"), seconds)


def repeat(path: Path) -> Request:
    """The request that a `run.json` records.

    Raises:
        InputError: If it is no record of such a run, or weights have changed since.
    """
    record = read_record(path)
    job = job_of(record)
    if job != Drawing.job:
        raise InputError(f"{path} is the record of a run of `posteria {job}`.")
    try:
        plan = Drawing(**record["plan"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{path} is not the record of a run.") from error
    request = Request(
        rules=plan.rules,
        prior=plan.prior,
        size=None if plan.size is None else (plan.size[0], plan.size[1]),
        label=plan.label,
        weight=plan.weight,
        weak=plan.models.get("weak"),
        tuned=plan.models.get("tuned"),
        classifier=plan.models.get("classifier", plan.judge),
        samplers=plan.samplers,
        samples=plan.samples,
        reference=plan.reference,
        seed=plan.seed,
        chunk=plan.chunk,
        device=plan.device,
    )
    found = {model: sha256_of(model, name) for model, name in plan.models.items()}
    if (plan.prior_sha256, plan.models_sha256) != (prior_sha256(plan.prior), found):
        raise InputError(f"{path} was made with other weights than its models have now.")
    return request
