"""The command that draws a label raised to a power: what it writes, what it costs."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import posteria as po
from common.command import files, posteria as run_posteria
from helpers import gaussian
from posteria import cli
from posteria.guidance import Pointwise
from posteria.guidance.tilted.apg import APG
from posteria.guidance.tilted.linear_ag import LinearAG
from posteria.metrics.diversity import classifier_agreement
from posteria.priors import SHIPPED
from posteria.priors.classifier import load_classifier
from posteria.runs import engine, settings
from posteria.runs.engine import Method, draw
from posteria.runs.job import run
from posteria.runs.jobs.generate import prepare
from posteria.runs.request import Generate
from posteria.runs.settings import choose_rule, choose_rules
from posteria.runs.store import Store

QUICK = ["--label", 3, "--steps", 4, "--solver", "ddim", "--n", 3, "--chunk", 2]

Command = Callable[..., int]


@pytest.fixture
def posteria(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `posteria generate`; returns its exit code."""

    return partial(run_posteria, "generate", monkeypatch=monkeypatch)


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as content:
        return dict(content)


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())["results"]
    return content


def test_it_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], posteria: Command
) -> None:
    out, words = tmp_path / "run", [*QUICK, "--weight", 3]
    assert posteria(*words, "--out", out) == 0
    drawn = arrays(out)
    assert drawn["seeds"].tolist() == [0, 1, 2]
    # Catches: another label, weight, solver or schedule than was asked for.
    target = po.Tilted(po.load_prior("digits"), po.Label(3), 3.0)
    sampler = po.Guided(schedule=po.Karras(steps=4), solver=po.DDIM())
    assert np.array_equal(drawn["samples"][:2], sampler.sample(target, seeds=[0, 1]).numpy())
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["job"]) == ("done", "generate")
    scores = record["results"]["scores"]["cfg"]
    assert (scores["cost"]["forward"], scores["cost"]["backward"], scores["shared"]) == (8, 0, 1)
    x = torch.from_numpy(drawn["samples"])
    assert scores["agreement"] == classifier_agreement(load_classifier("digits"), x, 3)
    assert scores["levels"] == "80 to 0.002 in 4 steps"
    with Image.open(out / "samples.png") as image:
        image.verify()
    page = (out / "report.html").read_text()
    assert not re.search(r"src=.(?!data:)", page) and "{{" not in page
    assert all((out / name).is_file() for name in re.findall(r'href="([^"]*)"', page))
    assert page.index("<table") < page.index("<img")
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("agreement", "distance", "evaluations 8", "seconds", "MiB", "x = x_0 + sigma"):
        assert text in printed
    assert not (out / "chunks").exists() and not list(out.glob(".*"))

    before = files(out)
    assert posteria(*words, "--out", out) == 0
    assert "finished before" in capsys.readouterr().out
    # Catches: going on with another law, and a folder that another run or person has.
    for changed in (
        ["--weight", 2],
        ["--label", 4],
        ["--steps", 5],
        ["--chunk", 3],
        ["--seed", 1],
    ):
        assert posteria(*words, *changed, "--out", out) == 1
        assert "holds a" in capsys.readouterr().err
    assert files(out) == before
    assert posteria("--record", out / "run.json", "--out", tmp_path / "again") == 0
    assert np.array_equal(arrays(tmp_path / "again")["samples"], drawn["samples"])


def test_rules_are_compared_on_the_same_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], posteria: Command
) -> None:
    words = [*QUICK, "--n", 6, "--chunk", 6, "--compare", "cfg,guided,apg", "--set", "apg.eta=1.0"]
    assert posteria(*words, "--reference", 7, "--out", tmp_path / "run") == 0
    drawn = arrays(tmp_path / "run")
    # Catches: seeds that count on from rule to rule. `guided` is CFG unless it is told otherwise, and
    # so is APG with eta 1.
    assert np.array_equal(drawn["cfg"], drawn["guided"])
    assert np.allclose(drawn["cfg"], drawn["apg"], atol=1e-3)
    # Catches: a reference that shares the noise of the samples, which would flatter their precision, or is tilted.
    target = po.Tilted(po.load_prior("digits"), po.Label(3), 1.0)
    reference = po.Guided().sample(target, seeds=range(6, 13)).numpy()
    assert np.allclose(drawn["reference"], reference, atol=1e-3)
    scores = results(tmp_path / "run")["scores"]
    assert list(scores) == ["cfg", "guided", "apg", "reference"]
    assert (
        scores["reference"]["cost"]["forward"] == 63 and scores["reference"]["precision"] is None
    )
    for what in ("agreement", "precision", "recall", "coverage", "distance", "vendi"):
        assert 0 <= scores["cfg"][what] == scores["guided"][what]
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("rule")).split()
    for head in (
        "agreement",
        "precision",
        "recall",
        "distance",
        "Vendi",
        "evaluations",
        "seconds",
    ):
        assert head in row
    for name in ("compare-cfg", "compare-apg", "samples-cfg", "samples-apg", "samples-reference"):
        with Image.open(tmp_path / "run" / f"{name}.png") as image:
            image.verify()


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a memory of a rule that lives in the process only, chunks of two rules in one file,
    # evaluations that are forgotten or counted twice.
    rules_ = ("apg", "ag", "cfgig")
    request = Generate(
        rules=rules_,
        label=3,
        weight=3.0,
        steps=3,
        settings={"apg.beta": "-0.5", "cfgig.initial": "1", "cfgig.rounds": "1"},
        samples=3,
        reference=0,
        chunk=2,
    )
    job = prepare(request)
    whole, _ = run(job, Store(tmp_path / "whole"), lambda done, total: None)
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY", 0.0)
    store, progress, kills = Store(tmp_path / "killed"), [0.0], 0

    def advance(done: int, total: int) -> None:
        if done > progress[0]:
            progress[0] = done
            raise Killed

    while True:
        try:
            again, _ = run(job, store, advance)
            break
        except Killed:
            kills += 1
    assert kills == progress[0] == 3 * 2 * 3
    once, twice = arrays(tmp_path / "whole"), arrays(tmp_path / "killed")
    for name in rules_:
        assert np.array_equal(once[name], twice[name])
        for what in ("forward", "backward", "others"):
            costs = [each.scores[name].cost for each in (whole, again)]  # type: ignore[attr-defined]
            assert getattr(costs[0], what) == getattr(costs[1], what)


@dataclass(frozen=True)
class Half(Pointwise):
    """Guides the first half of a batch only."""

    def at(self, target: po.Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        half = len(x) // 2
        guided = target.unconditional(x[:half], sigma).lerp(target.conditional(x[:half], sigma), 2)
        return torch.cat([guided, target.conditional(x[half:], sigma)])


def test_the_cost_is_the_mean_of_what_samples_cost(tmp_path: Path) -> None:
    # Catches: the cost of the dearest sample in place of the mean, which hides what a rule saves.
    family = po.Family(gaussian(seed=1), {0: gaussian()})
    target = po.Tilted(family, po.Label(0), 2.0)
    sampler = po.Guided(rule=Half(), schedule=po.Karras(steps=5), solver=po.DDIM())
    methods = {"half": Method(sampler, target, range(4))}
    cost = draw(methods, 4, Store(tmp_path), lambda done, total: None)["half"].cost
    assert (cost.forward, cost.backward, cost.operator) == (5 * 1.5, 0, 0)


def test_a_population_is_drawn_whole_and_its_cost_is_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], posteria: Command
) -> None:
    words = ["--label", 3, "--rule", "tilted", "--steps", 3, "--n", 4]
    words += ["--set", "particles=4", "--set", "rounds=0"]
    assert posteria(*words, "--chunk", 2, "--out", tmp_path / "run") == 0
    scores = results(tmp_path / "run")["scores"]["tilted"]
    # Each particle asks both members at each of 3 levels.
    assert (scores["shared"], scores["cost"]["forward"]) == (4, 3 * 2)
    assert "share of a population of 4, which costs 24 evaluations" in capsys.readouterr().out


def test_other_models_are_part_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], posteria: Command
) -> None:
    weak = tmp_path / "weak"
    shutil.copytree(SHIPPED["digits"].folder, weak, ignore=shutil.ignore_patterns("card.toml"))
    words = [*QUICK, "--rule", "autoguidance", "--weak", weak, "--out", tmp_path / "run"]
    assert posteria(*words) == 0
    # The weak model is the prior itself, so that this is the conditional law.
    target = po.Tilted(po.load_prior("digits"), po.Label(3), 1.0)
    sampler = po.Guided(schedule=po.Karras(steps=4), solver=po.DDIM())
    drawn = arrays(tmp_path / "run")["samples"]
    assert np.allclose(drawn, sampler.sample(target, seeds=range(3)).numpy(), atol=1e-3)
    # Catches: a cost without that of the weak model.
    assert results(tmp_path / "run")["scores"]["autoguidance"]["cost"]["forward"] == 8
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again) == 0
    assert np.array_equal(arrays(tmp_path / "again")["samples"], drawn)
    # Catches: going on with a weak model that has changed.
    weights = weak / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: v * 1.01 for k, v in load_file(weights).items()}, weights)
    assert posteria(*words) == 1
    assert "holds another run (what differs: weights of the weak prior)" in capsys.readouterr().err
    assert posteria(*again[:2], "--out", tmp_path / "third") == 1
    assert "was made with weights of the weak prior of SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_rules_that_ask_a_classifier_take_the_shipped_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], posteria: Command
) -> None:
    words = ["--label", 3, "--compare", "gfcg,elucd,dynamic,mgdm", "--steps", 3, "--n", 2]
    words += ["--reference", 0, "--set", "dynamic.weights=(1.0,3.0)"]
    assert posteria(*words, "--out", tmp_path / "run") == 0
    scores = {n: s["cost"] for n, s in results(tmp_path / "run")["scores"].items()}
    # Heun: 5 estimates in 3 steps, each seen by the classifier.
    assert (scores["gfcg"]["forward"], scores["gfcg"]["others"]) == (10, 5)
    assert (scores["elucd"]["forward"], scores["elucd"]["others"]) == (5, 5)
    # DDIM: two weights are tried a step, and the states they end in are denoised, but for the clean ones.
    assert (scores["dynamic"]["forward"], scores["dynamic"]["others"]) == (3 * 2 + 2 * 2, 6)
    # A sampler of posteriors draws from the unconditional member times the classifier.
    assert scores["mgdm"]["forward"] > 3 and scores["mgdm"]["others"] > 0
    printed = capsys.readouterr().out
    assert "The same classifier guided gfcg, elucd, dynamic, mgdm" in printed


def test_a_rule_that_needs_a_fit_is_fitted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, posteria: Command
) -> None:
    # Catches: a fit that is made again by a run that goes on, or is lost by its record.
    monkeypatch.setattr(settings, "TRAJECTORIES", range(100, 104))
    fit, fits = settings.fitted, []

    def watched(*words: Any) -> Any:
        fits.append(1)
        return fit(*words)

    monkeypatch.setattr("posteria.runs.jobs.generate.fitted", watched)
    words = [*QUICK, "--steps", 8, "--rule", "linear_ag"]
    job = prepare(Generate(rules=("linear_ag",), label=3, steps=8, samples=3, chunk=2))

    def die(done: int, total: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        run(job, Store(tmp_path / "run"), die)
    assert posteria(*words, "--out", tmp_path / "other") == 0
    assert posteria("--record", tmp_path / "other" / "run.json", "--out", tmp_path / "run") == 0
    assert len(fits) == 2
    # 4 guided levels of 8, two of them estimated.
    assert results(tmp_path / "run")["scores"]["linear_ag"]["cost"]["forward"] == 10
    target = po.Tilted(po.load_prior("digits"), po.Label(3), 2.0)
    rule = LinearAG.fit(target, po.Karras(steps=8), range(100, 104))
    sampler = po.Guided(rule=rule, schedule=po.Karras(steps=8), solver=po.DDIM())
    drawn = arrays(tmp_path / "run")["samples"]
    assert np.array_equal(drawn[:2], sampler.sample(target, seeds=[0, 1]).numpy())


def test_settings_go_to_the_rules_that_have_them() -> None:
    # Catches: a setting that is read and then dropped, or given to a rule that was not meant.
    chosen = choose_rules(("cfg", "apg"), "dpmpp2m", 7, {"eta": "0.5"})
    schedule, solver = po.Karras(steps=7), po.solvers.DPMpp2M()
    assert chosen["apg"] == po.Guided(rule=APG(eta=0.5), schedule=schedule, solver=solver)
    assert chosen["cfg"] == po.Guided(rule=po.CFG(), schedule=schedule, solver=solver)
    chosen = choose_rules(("cfg", "apg"), None, None, {"apg.weight": "3", "weight": "2"})
    assert chosen["cfg"] == po.Guided(rule=po.CFG(weight=2.0))
    assert chosen["apg"] == po.Guided(rule=APG(weight=3.0))
    of_sampler = choose_rule("cfg", None, 5, {"schedule": "LogLinear(sigma_max=10.0)"})
    assert of_sampler.schedule == po.schedules.LogLinear(steps=5, sigma_max=10.0)
    # CFG++ is made for DDIM, and runs with it unless it is told otherwise.
    assert choose_rule("cfgpp", None, None, {}).solver == po.DDIM()  # type: ignore[attr-defined]
    assert choose_rule("cfgpp", "heun", None, {}).solver == po.Heun()  # type: ignore[attr-defined]


def test_list_names_every_rule(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["posteria", "list", "rules"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out
    for name in (*po.guidance.RULES, "guided", "tilted"):
        assert name in printed
