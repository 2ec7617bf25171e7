"""Which rule fits in which pipeline, as the table of docs/priors.md has it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as d
import pytest
import torch
from torch import Tensor
from typing_extensions import override

import posteria as po
from common.models.pipelines import parts_of
from common.models.unets import tiny
from helpers import normal
from posteria.guidance.classifiers.classifier import Classifier, CleanClassifier
from posteria.guidance.registry import RULES
from posteria.priors import Embeddings, Given, from_diffusers
from priors.pipeline.test_given import FAMILIES as GIVEN

PAGE = Path(__file__).parents[3] / "docs" / "priors.md"
LEVELS = po.Karras(steps=2, sigma_min=0.1, sigma_max=5.0)


class Noisy(Classifier):
    """Two classes, by the mean of a noisy signal."""

    noisy, labels = True, 2

    def __init__(self, space: po.Space) -> None:
        self.space = space

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        return logits(x) / (1 + torch.as_tensor(sigma).to(x).reshape(-1, 1) ** 2)


def logits(x: Tensor) -> Tensor:
    mean = x.flatten(1).mean(1)
    return torch.stack([mean, -mean], -1)


def rule_of(name: str, target: po.Tilted) -> Any:
    weak, space = target.prior, target.space
    given: dict[str, Callable[[], dict[str, Any]]] = {
        "autoguidance": lambda: {"weak": weak},
        "rlg": lambda: {"tuned": weak},
        "dynamic": lambda: {"evaluators": (lambda x, sigma: logits(x)[:, 0],)},
        "gfcg": lambda: {"classifier": Noisy(space)},
        "classifier": lambda: {"classifier": Noisy(space)},
        "elucd": lambda: {"classifier": CleanClassifier(logits, space, 2)},
    }
    if name == "linear_ag":
        return po.guidance.LinearAG.fit(target, LEVELS, range(900, 904))
    return RULES[name](**given.get(name, dict)())


def classes() -> po.Tilted:
    parts = {"unet": tiny(num_class_embeds=3), "scheduler": d.DDPMScheduler(clip_sample=False)}
    return po.Tilted(from_diffusers(parts, null=po.Label(2)), po.Label(1), 2.0)


def of_classes() -> po.Tilted:
    return po.Tilted(from_diffusers(parts_of("dit")), po.Label(1), 2.0)


def of_texts(family: str) -> Callable[[], po.Tilted]:
    def make() -> po.Tilted:
        text, none = (
            Embeddings(normal(7, 8, seed=k).float(), normal(8, seed=k).float()) for k in (3, 4)
        )
        return po.Tilted(from_diffusers(parts_of(family), null=none), text, 2.0)

    return make


def of_given(family: str) -> Callable[[], po.Tilted]:
    def make() -> po.Tilted:
        parts, arguments = GIVEN[family][0]()
        half = {
            key: value / 2 if isinstance(value, Tensor) and value.is_floating_point() else value
            for key, value in arguments.items()
        }
        prior = from_diffusers(parts, shape=GIVEN[family][1], null=Given(**half))
        return po.Tilted(prior, Given(**arguments), 2.0)

    return make


PIPELINES = {
    "classes": classes,
    "DiT": of_classes,
    "SD": of_texts("sd"),
    "SD v": of_texts("sd-v"),
    "SD XL": of_texts("sdxl"),
    "SD 3": of_given("sd3"),
    "PixArt": of_given("pixart"),
    "AudioLDM 2": of_given("audioldm2"),
    "Stable Audio": of_given("stable-audio"),
    "Wan": of_given("wan"),
}
SAMPLERS: dict[str, po.samplers.Sampler[Any]] = {
    "cfgig": po.CFGiG(schedule=po.Karras(steps=6, sigma_min=0.1, sigma_max=5.0), initial=2),
    "tilted": po.TiltedGibbs(schedule=LEVELS, particles=4),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_rule_fits_or_says_what_it_needs(pipeline: str) -> None:
    # Catches: a rule that fails in a pipeline, or draws there without its condition, against what the page says.
    target = PIPELINES[pipeline]()
    plain = po.Guided(rule=po.CFG(0.0), solver=po.DDIM(), schedule=LEVELS).sample(target, [0])
    found = {}
    for name in (*RULES, *SAMPLERS):
        try:
            rule = None if name in SAMPLERS else rule_of(name, target)
            sampler = SAMPLERS.get(name) or po.Guided(rule=rule, solver=po.DDIM(), schedule=LEVELS)
            x = sampler.sample(target, [0])
            assert x.isfinite().all() and not torch.equal(x, plain), name
            found[name] = "y"
        except po.CapabilityError as error:
            assert "needs a Label" in str(error), error
            found[name] = "label"
    lines = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines()]
    head = next(line for line in lines if line[0] == "rule")
    table = {line[0]: line[head.index(pipeline)] for line in lines if len(line) == len(head)}
    assert found == {name: table[name] for name in found}
