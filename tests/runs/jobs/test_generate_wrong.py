"""`posteria generate`: one sentence for every wrong input."""

import json
import shutil
from pathlib import Path

import pytest

from common.command import files, posteria
from posteria.priors import SHIPPED

WRONG = {
    "--n 2": "Say what to draw from the prior 'digits' with --label: it knows 0 to 9",
    "--label 10": "from 0 to 9; 10 is not",
    "--label -1": "A label is an integer of at least 0; -1 is not",
    "--label 3 --weight -1": "a number of at least 0; -1.0 is not",
    "--label 3 --weight nan": "a number of at least 0; nan is not",
    "--label 3 --prior photo --size 64x64": "The prior 'photo' knows no labels, so that there is nothing to guide",
    "--label 3 --prior digit": "no prior 'digit'; there are",
    "--label 3 --prior blind": "This network has no unconditional branch",
    "--label 3 --rule unconditional": "draws from the prior itself: without --label",
    "--rule unconditional --weight 3": "--weight is the power of a --label or a --prompt; give one",
    "--rule unconditional --classifier digits": "--classifier says which samples show a --label; give that",
    "--label 3 --rule cgf": "There is no rule 'cgf'; there are cfg,",
    "--label 3 --compare cfg,cfg": "The rule 'cfg' was named twice",
    "--label 3 --compare cfg,": "There is no rule ''",
    "--label 3 --rule apg --weight 0.5": "weight=0.5",
    "--label 3 --rule ag --weight 0.5": "weight=0.5",
    "--label 3 --rule two_level --weight 1": "needs a weight above 1",
    "--label 3 --rule autoguidance": "models are named by --weak",
    "--label 3 --rule autoguidance --weak photo --size 28x28": "cannot be given Label(label=3)",
    "--label 3 --rule rlg": "models are named by --tuned",
    "--label 3 --weak digits": "Nothing in this run (cfg) uses the model of --weak",
    "--label 3 --rule elucd --prior seeing": "models are named by --classifier",
    "--label 3 --rule mgdm --prior seeing": "name one with --classifier",
    "--label 3 --rule classifier": "needs a classifier of noisy signals",
    "--label 3 --classifier satellite": "There is no classifier 'satellite'",
    "--label 3 --classifier digits --size 32x32": "sees pictures of shape (1, 28, 28)",
    "--label 3 --rule linear_ag --solver heun": "LinearAG needs a solver of one evaluation a step",
    "--label 3 --rule linear_ag --weight 0.5": "needs a weight of at least 1; weight=0.5",
    "--label 3 --rule tilted --set sigma_star=500": "500 is not",
    "--label 3 --rule tilted --solver heun": "has a scheme of its own; leave --solver out",
    "--label 3 --solver hen": "no solver 'hen'; there are",
    "--label 3 --steps 0": "is an integer, at least 1; 0 is not",
    "--label 3 --set eta=1": "no setting of cfg 'eta'; there are weight, schedule",
    "--label 3 --rule apg --set eta=two": "eta takes float, such as 0.0; 'two' is not one",
    "--label 3 --rule apg --set eta=2": "eta of APG is from 0 to 1; 2.0 is not",
    "--label 3 --rule elucd --set base=sideways": "base takes 'unconditional' or 'conditional'",
    "--label 3 --compare cfg,apg --set zeta=1": "None of cfg, apg has a setting 'zeta'",
    "--label 3 --compare cfg,apg --set ag.eta=1": "There is no rule in this run 'ag'",
    "--label 3 --n 0": "at least 1",
    "--label 3 --reference -1": "--reference is a number of at least 0",
    "--label 3 --seed -1": "A seed is an integer from 0",
    "--label 3 --seed 4294967295 --n 1 --reference 1": "A seed is an integer from 0",
    "--label 3 --device gpu": "is not a device",
    "--label 3 --out full": "holds other files (thesis.tex)",
    "--label 3 --out restored": "is the record of a run of `posteria restore`",
    "--label 3 --rule cfg --compare cfg,apg": "Give --rule or --compare, not both",
    "--label 3 --record restored/run.json": "leave --label out",
    "--record absent.json": "There is no file",
    "--record restored/run.json": "is the record of a run of `posteria restore`",
}


def write_inputs(folder: Path) -> None:
    for name, extra in (("blind", {"patch": 2}), ("seeing", {"patch": 2, "null_label": 10})):
        shutil.copytree(
            SHIPPED["digits"].folder, folder / name, ignore=shutil.ignore_patterns("card.toml")
        )
        (folder / name / "posteria.json").write_text(json.dumps(extra))
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("mine")
    (folder / "restored").mkdir()
    (folder / "restored" / "run.json").write_text(json.dumps({"status": "done", "plan": {}}))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.mark.parametrize("words", WRONG)
def test_wrong_input_ends_in_one_sentence(
    words: str,
    inputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Catches: a traceback from inside torch; work before the input is known to be good; a result overwritten.
    monkeypatch.chdir(inputs)
    before = files(inputs)
    drawn: list[int] = []
    monkeypatch.setattr("posteria.runs.engine.draw_chunk", lambda *_: drawn.append(1))
    assert posteria("generate", *words.split(), monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert WRONG[words] in error
    assert error.startswith("posteria: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not drawn
    assert files(inputs) == before


def test_a_record_holds_the_samplers_of_its_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: draws of a sampler that the report calls by another's name; a traceback of a record without rules.
    record, words = tmp_path / "run" / "run.json", ["--label", 3, "--n", 1, "--steps", 2]
    assert posteria("generate", *words, "--out", record.parent, monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    content = json.loads(record.read_text())
    for changes, sentence in (
        ({"rules": []}, "these are of cfg, and the rules are none"),
        ({"rules": ["apg"]}, "these are of cfg, and the rules are apg"),
        ({"rules": [], "samplers": {}}, "these are of none, and the rules are none"),
        ({"reference": 3}, "these are of cfg, and the rules are cfg, reference"),
        ({"samplers": {"cfg": "1"}}, "'1' describes no sampler"),
    ):
        record.write_text(json.dumps({**content, "plan": {**content["plan"], **changes}}))
        again = ["--record", record, "--out", tmp_path / "again"]
        assert posteria("generate", *again, monkeypatch=monkeypatch) == 1
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "again").exists()
