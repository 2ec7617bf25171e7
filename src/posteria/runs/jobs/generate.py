"""Draw from a prior with a label raised to a power: what is prepared, and what is made of the samples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from typing_extensions import override

from ...core.errors import CapabilityError, InputError, expect, require
from ...diffusion.denoiser import Condition, Conditional, Denoiser
from ...guidance import CFG
from ...guidance.classifiers.classifier import CleanClassifier
from ...guidance.classifiers.classifier_guidance import classified
from ...latent import signals_of
from ...modalities import Figure, Modality, modality_of
from ...priors import Prompt, reads_texts
from ...priors.classifier import CLASSIFIERS
from ...priors.load import card_of, origin_of
from ...samplers import Guided, PosteriorSampler, rebuild_sampler
from ...samplers.base import Sampler
from ...target import Posterior, Tilted
from ..engine import Drawn, Method
from ..job import First, Job
from ..report import Page
from ..request import REFERENCE, UNCONDITIONAL, Generate
from ..results import Results, divergence, plural, shown
from ..settings import check, choose_rules, condition_of, fitted, prior_of, unfitted, within
from ..store import Store
from .models import MODELS, Models, load_judge, wants
from .scores import Generated, Scores, levels_in_words, score

# Draws the reference: the conditional law itself.
CONDITIONAL = Guided(rule=CFG(weight=1.0))
# Samples of one rule in the figure that shows the rules side by side.
ACROSS = 12
# Samples of one rule that are shown.
SHOWN = 64


@dataclass(frozen=True)
class Generation(Job):
    """Draws that are ready to be made.

    Args:
        request: What is done.
        methods: By the name of their rule; the reference is the last.
        modality: Of the samples.
        judge: The classifier that judges the samples, if there is one.
    """

    numbers: ClassVar[type[Results]] = Generated
    request: Generate
    modality: Modality
    judge: CleanClassifier | None

    @property
    @override
    def title(self) -> str:
        rules, request = self.request.rules, self.request
        what = rules[0] if len(rules) == 1 else f"{len(rules)} rules"
        return f"{request.given or 'samples'} of {request.prior}, {what}"

    @override
    def fitted(self, store: Store, first: First) -> Self:
        methods = dict(self.methods)
        for name, method in methods.items():
            if unfitted(method.sampler) and isinstance(method.target, Tilted):
                kept = _kept(store, f"{name}.json")
                if kept is None:
                    kept = fitted(method.sampler, method.target)
                    store.write_json(f"{name}.json", repr(kept))
                methods[name] = replace(method, sampler=kept)
        return replace(self, methods=methods)

    @property
    def judged(self) -> list[str]:
        """The rules that are guided by the classifier that judges them."""
        return [
            name
            for name, method in self.methods.items()
            if isinstance(method.target, Posterior) or wants(method.sampler, "classifier")
        ]

    @override
    def results(self, drawn: Mapping[str, Drawn]) -> Generated:
        request = self.request
        device = torch.device(self.methods[request.rules[0]].target.space.device)
        reference = drawn[REFERENCE].x.to(device) if REFERENCE in drawn else None
        values = "pixels" if self.modality.name == "image" else "values"
        scores = {}
        for name, each in drawn.items():
            compared = None if name == REFERENCE else reference
            measured: dict[str, Any] = score(
                each.x.to(device), compared, request.label, self.judge
            )
            sampler = self.methods[name].sampler
            scores[name] = Scores(
                **measured,
                cost=each.cost,
                seconds=each.meter.seconds,
                shared=sampler.shared,
                levels=levels_in_words(sampler),
                diagnostics=each.diagnostics(self.methods[name]),
            )
        lost = [divergence(each.x, f"of {name} ") for name, each in drawn.items()]
        return Generated(
            diverged=" ".join(sentence for sentence in lost if sentence) or None,
            scores=scores,
            samples=request.samples,
            reference=request.reference or 0,
            features="features of that classifier" if self.judge else values,
            judge=request.classifier,
            judged=self.judged,
        )

    @override
    def arrays(self, drawn: Mapping[str, Drawn]) -> dict[str, np.ndarray]:
        return {"seeds": np.array(self.request.seeds)}

    @override
    def page(self, drawn: Mapping[str, Drawn], results: Results) -> Page:
        request, figures = self.request, list[Figure]()
        finite = {name: shown(each.x) for name, each in drawn.items()}
        if len(request.rules) > 1:
            across = min(ACROSS, request.samples)
            rows = {name: finite[name][:across] for name in request.rules}
            caption = f"each rule on the seeds {request.seeds[0]} to {request.seeds[across - 1]}"
            figures += self.modality.compare("compare", rows, caption)
        for name, x in finite.items():
            array = self.methods[name].array
            file = "samples.png" if array == "samples" else f"samples-{name}.png"
            figures.append(
                self.modality.sheet(file, x, f"{name}: {plural(min(len(x), SHOWN), 'sample')}")
            )
        several = ", of each rule on the same seeds" if len(request.rules) > 1 else ""
        power = (
            f" of {request.given} raised to the power {request.weight}, p(x | c)^w p(x)^(1 - w),"
        )
        return Page(
            title=self.title,
            intro=[
                f"{plural(request.samples, 'sample')}{power if request.given else ''} from the prior "
                f"{request.prior}{several}."
            ],
            figures=figures,
            facts={
                **{f"SHA-256 of {name}": value[:16] for name, value in request.hashes.items()},
                "seeds": f"{request.seeds[0]} to {request.seeds[-1]}",
            },
            code=[f"{name}: {sampler}" for name, sampler in request.samplers.items()],
        )


def _kept(store: Store, name: str) -> Sampler[Any] | None:
    """A fitted sampler that an earlier attempt has left whole."""
    try:
        return rebuild_sampler(store.read_json(name) or "")
    except InputError:
        return None


def prepare(request: Generate) -> Generation:
    """Check a request and load what it needs.

    Raises:
        PosteriaError: With a sentence on what is wrong and what to do.
    """
    request.check()
    words = (request.solver, request.steps, request.settings)
    rebuilt = {name: rebuild_sampler(text) for name, text in request.samplers.items()}
    samplers = rebuilt or choose_rules(request.rules, *words)
    card = card_of(request.prior)
    prior, origin = prior_of(request, card), origin_of(card)
    condition = _condition(request, prior)
    if condition is not None and request.weight == 1 and not _tilts(prior):
        # A class of a network that knows nothing else is a prior by itself.
        prior, condition = expect(prior.given(condition), Conditional, by="generate"), None
    if condition is None and request.rules != (UNCONDITIONAL,):
        request = replace(request, rules=(UNCONDITIONAL,))
        samplers = choose_rules(request.rules, *words)
    reference = request.reference
    if reference is None:
        reference = request.samples if len(request.rules) > 1 else 0
    if not rebuilt:
        samplers |= {REFERENCE: CONDITIONAL} if reference else {}
        set_ = any(key.rpartition(".")[2] == "schedule" for key in request.settings)
        samplers = {name: within(each, prior, set_) for name, each in samplers.items()}
    target = prior if condition is None else Tilted(prior, condition, request.weight)
    names = _models(request, samplers)
    models = Models(names, target, request.size)
    judge = _classifier(request)
    settled = replace(
        request,
        samplers={name: repr(sampler) for name, sampler in samplers.items()},
        reference=reference,
        classifier=judge,
        solver=None,
        steps=None,
        settings={},
        device=torch.device(request.device).type,
    ).identified({"prior": origin.weights, **models.sha256})
    settled.check()
    methods = {
        name: Method(
            models.into(sampler),
            _target_of(sampler, target, models),
            settled.reference_seeds if name == REFERENCE else settled.seeds,
            "samples" if (name,) == request.rules else name,
            models.meter,
        )
        for name, sampler in samplers.items()
    }
    for method in methods.values():
        _check(method, models)
    seen = None if judge is None else load_judge(judge, target.space)
    kind = modality_of(signals_of(prior), request.prior, origin.card)
    return Generation(settled, methods, kind, seen)


def _tilts(prior: Conditional) -> bool:
    """Whether there is an unconditional member, which a power of a condition needs."""
    try:
        prior.unconditional()
    except CapabilityError:
        return False
    return True


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


def _target_of(sampler: Sampler[Any], target: Denoiser, models: Models) -> Denoiser | Posterior:
    """What a sampler draws from; a sampler of posteriors takes the classifier's word for the label."""
    if not isinstance(sampler, PosteriorSampler):
        return target
    if models.classifier is None:
        raise CapabilityError(
            f"{type(sampler).__name__} is guided by a classifier of clean pictures; name one with --classifier."
        )
    return classified(expect(target, Tilted, by=sampler), models.classifier)


def _condition(request: Generate, prior: Conditional) -> Condition | None:
    """The class or the text; None where the prior itself is drawn from."""
    condition, rules = condition_of(request), request.rules
    if UNCONDITIONAL in rules:
        require(
            condition is None and len(rules) == 1,
            "The rule unconditional draws from the prior itself: without --label, --prompt and other rules.",
        )
        return None
    if isinstance(condition, Prompt):
        return condition
    if not prior.labels and (condition is not None or rules != Generate.rules):
        raise CapabilityError(
            f"The prior {request.prior!r} knows no labels, so that there is nothing to guide it by; choose one that "
            "does (`posteria list priors`), or give one of texts a --prompt."
        )
    if condition is None and (prior.labels or reads_texts(prior)):
        known = f"--label: it knows 0 to {prior.labels - 1}" if prior.labels else "--prompt"
        without = (
            "--rule unconditional draws without" if _tilts(prior) else "it draws nothing without"
        )
        raise InputError(
            f"Say what to draw from the prior {request.prior!r} with {known}; {without}."
        )
    return condition


def _classifier(request: Generate) -> str | None:
    """The name of the classifier: the one asked for, or the one that ships for this prior."""
    ours = request.prior in CLASSIFIERS and request.label is not None and not request.size
    if request.classifier is not None or not ours:
        return request.classifier
    return request.prior


def _models(request: Generate, samplers: Mapping[str, Sampler[Any]]) -> dict[str, str]:
    """The names of the models that the samplers use."""
    given = {"weak": request.weak, "tuned": request.tuned, "classifier": _classifier(request)}
    wanted = {model for model in MODELS for sampler in samplers.values() if wants(sampler, model)}
    if any(isinstance(sampler, PosteriorSampler) for sampler in samplers.values()):
        wanted.add("classifier")
    for model in ("weak", "tuned"):
        if given[model] is not None and model not in wanted:
            rules = ", ".join(name for name in samplers if name != REFERENCE)
            raise InputError(f"Nothing in this run ({rules}) uses the model of --{model}.")
    return {model: name for model, name in given.items() if model in wanted and name is not None}
