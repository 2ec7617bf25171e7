"""Nothing moves unseen: what every sampler and every rule draws at fixed seeds, as recorded in `golden.json`.

A change of the code that is meant to keep the samples keeps them to the last bit. A change of law is recorded
again, in a commit of its own that says why: `PYTHONPATH=tests python tests/samplers/test_golden.py`.
"""

import hashlib
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.battery import LEVELS, RULES, SAMPLERS as TILTED, TARGET
from common.sampler import QUICK, SMALL, TARGETS, TOLD, takes

FILE = Path(__file__).parent / "golden.json"
SEEDS = (3, 7, 2**31 + 5)
SOLVERS = {
    "ddim": po.DDIM(),
    "ddpm": po.solvers.DDPM(),
    "heun": po.Heun(),
    "dpmpp2m": po.solvers.DPMpp2M(),
}
# On the network each of these says something that the toy does not; populations would take minutes.
ON_DIGITS = ["mgps", "mgdm", "mmps", "pigdm", "tmpd", "lgd", "dps", "sda", "daps", "pnp_dm"]
ON_DIGITS += ["diffpir", "dcps", "red_diff", "ddrm", "ddnm", "repaint", "score_sde", "msdm", "tfg"]
# Recorded entries of a picture.
PIXELS = slice(5, None, 41)


@cache
def toy() -> dict[str, tuple[po.samplers.Sampler[Any], Any]]:
    """Every sampler on every target that it takes, every rule with every solver."""
    cases: dict[str, tuple[po.samplers.Sampler[Any], Any]] = {
        f"{name} / {kind}": (sampler, target)
        for name, sampler in SMALL.items()
        for kind, target in TARGETS.items()
        if takes(name, target)
    }
    cases |= {f"{name} / tilted": (sampler, TARGET) for name, sampler in TILTED.items()}
    for key, solver in SOLVERS.items():
        for name, rule in RULES.items():
            if (name, key) == ("linear_ag", "heun"):  # it takes one evaluation a step
                continue
            guided = po.Guided(rule=rule, solver=solver, schedule=LEVELS)
            cases[f"{name} / {key}"] = (guided, TARGET)
        plain = po.Unconditional(solver=solver, schedule=po.Karras(steps=6))
        cases[f"unconditional / {key}"] = (plain, TARGETS["linear"].prior)
    tilted = replace(TARGETS["linear"], prior=TARGET)
    cases["mgdm / posterior of a tilted law"] = (SMALL["mgdm"], tilted)
    return cases


@cache
def digits() -> dict[str, tuple[po.samplers.Sampler[Any], Any]]:
    """The samplers on a hole in a digit, and the tilted ones on a label."""
    prior = po.load_prior("digits")
    operator = po.operators.Inpainting(po.operators.box_mask(28, 28), prior.space.shape)
    likelihood = po.GaussianLikelihood(operator, std=0.1)
    truth = po.Unconditional(schedule=po.Karras(steps=8)).sample(prior, seeds=[7])
    target = po.Posterior(prior, likelihood, likelihood.sample(truth, po.Rng([0], stream=1))[0])
    cases: dict[str, tuple[po.samplers.Sampler[Any], Any]] = {
        name: (QUICK[name], target) for name in ON_DIGITS
    }
    label = po.Tilted(prior, po.Label(3), 2.0)
    return cases | {name: (TILTED[name], label) for name in ("guided", "guided apg", "cfgig")}


def fingerprint() -> str:
    """What the last bits of a computation depend on: two machines with the same one round alike."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(24, 24, dtype=torch.float64, generator=generator)
    probes = [
        a @ a,
        a.exp(),
        torch.linalg.inv(a),
        torch.linalg.eigvalsh(a @ a.mT),
        a.tanh().sum(0),
    ]
    return digest(torch.cat([probe.flatten() for probe in probes]))


def digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:16]


def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


@pytest.mark.parametrize("name", [name for name in toy() if name in recorded()["toy"]])
def test_samples_on_exact_problems_are_the_recorded_ones(name: str) -> None:
    # Catches: a refactoring that draws one number more, in another order, or rounds in another way.
    sampler, target = toy()[name]
    x, golden = sampler.sample(target, SEEDS), recorded()
    if fingerprint() == golden["fingerprint"]:
        assert digest(x) == golden["toy"][name]["sha256"]
    expected = torch.tensor(golden["toy"][name]["x"], dtype=x.dtype)
    torch.testing.assert_close(x.flatten(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*ON_DIGITS, "guided", "guided apg", "cfgig"])
def test_samples_of_a_network_are_the_recorded_ones(name: str) -> None:
    # Catches: a level, a label or a scale that reaches a network in another way than before.
    sampler, target = digits()[name]
    x = sampler.sample(target, [3]).flatten()[PIXELS]
    expected = torch.tensor(recorded()["digits"][name])
    torch.testing.assert_close(x, expected, rtol=2e-3, atol=2e-3)


def test_every_case_is_recorded() -> None:
    # Catches: a sampler that is renamed without a record, so that it may move unseen. One that was added with
    # settings of its own is recorded when it is next changed.
    golden = recorded()
    told = {name for name in toy() if name.split(" / ")[0] in {*TOLD, *TILTED, *RULES}}
    assert told <= set(golden["toy"]) <= set(toy())
    assert set(golden["digits"]) == {*ON_DIGITS, "guided", "guided apg", "cfgig"}


def record(only: list[str]) -> None:
    """Record the cases whose name begins with one of `only`, or all of them."""
    golden = recorded() if only else {"toy": {}, "digits": {}}
    golden["fingerprint"] = fingerprint()
    chosen = tuple(only) or ("",)
    for name, (sampler, target) in toy().items():
        if name.startswith(chosen):
            x = sampler.sample(target, SEEDS)
            golden["toy"][name] = {"sha256": digest(x), "x": x.flatten().tolist()}
    for name, (sampler, target) in digits().items():
        if name.startswith(chosen):
            x = sampler.sample(target, [3]).flatten()[PIXELS]
            golden["digits"][name] = [round(value, 6) for value in x.tolist()]
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    record(sys.argv[1:])
