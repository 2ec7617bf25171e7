"""What is printed: lists, help, citations, progress, and what a program reads."""

import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import posteria as po
from common.command import DIGIT, QUICK, SIMULATED, posteria
from posteria.cli import app as commands, output
from posteria.cli.app import app
from posteria.priors import PUBLISHED
from posteria.runs.usual import GENERAL, SAMPLERS


def test_list_explains_what_exists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert posteria("list", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    for word in (
        "digits",
        "mgdm",
        "mgps",
        "dps",
        "exact",
        "linear operator, Gaussian noise",
        "--sampler auto",
        "inpaint",
        "phase",
        "ffhq",
        "--quality",
    ):
        assert word in printed
    assert posteria("list", "sampler", monkeypatch=monkeypatch) == 1
    assert "Did you mean 'samplers'?" in capsys.readouterr().err


def test_lists_show_names_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: names cut to "stable-diffusion..." for four priors, which no command takes.
    monkeypatch.setenv("COLUMNS", "80")
    assert posteria("list", "priors", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert not [name for name in PUBLISHED if f" {name} " not in printed]
    assert "\u2026" not in printed


def test_the_help_names_the_usual_samplers() -> None:
    # Catches: a default that changed since its help was written.
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    (option,) = [p for p in group.commands["restore"].params if p.name == "sampler"]
    said = {
        kind: name
        for name, kinds in re.findall(r"(\w+) for ([\w ]+)", option.help)
        for kind in re.split(r" and for | and ", kinds)
    }
    usual = {
        key if isinstance(key, str) else f"{key[1]} of {key[0]}": value["sampler"]
        for key, value in SAMPLERS.items()
    }
    assert said == {**usual, "denoise": "reverse"}
    assert option.help.endswith(f"otherwise {GENERAL}.")


def test_what_is_printed_can_be_read_by_a_program_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", *SIMULATED, "--out", tmp_path / "run", *QUICK]
    assert posteria(*words, "--json", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert not printed.err and content["finished_before"] is False
    assert dict(content["rows"])["evaluations of the prior, per sample"] == "4 + 3 vjps"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["results"] == record["results"]
    assert posteria(*words, "--quiet", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    for what in ("samplers", "rules", "priors", "operators"):
        assert posteria("list", what, "--json", monkeypatch=monkeypatch) == 0
        assert len(json.loads(capsys.readouterr().out)[what]) > 2


def test_progress_is_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a log that is empty until the end, or full of bars.
    monkeypatch.setattr(output, "EVERY", 0.0)
    words = ["restore", *SIMULATED, "--out", tmp_path / "run", *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"inpaint of {DIGIT.name}: 12% after ")
    assert re.search(r": 25% after \d+ s, about \d+ s left$", lines[1])
    assert lines[-1].startswith(f"inpaint of {DIGIT.name}: 100% after ")


def test_one_entry_of_a_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert posteria("list", "samplers", "mgps", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert repr(po.MGPS()) in printed and "ffhq" in printed and "Args:" in printed
    assert "mgdm" not in printed.split("\n")[0]
    assert posteria("list", "samplers", "mgsp", monkeypatch=monkeypatch) == 1
    assert "There is no sampler 'mgsp'" in capsys.readouterr().err


def test_cite_prints_what_po_cite_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a rule's or a solver's name that is not known, a list that is cited in part.
    assert posteria("cite", "mgdm", "apg", "heun", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == po.cite(po.MGDM(), po.APG(), po.Heun())
    assert posteria("cite", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == po.cite()
    assert posteria("cite", "mgdmm", monkeypatch=monkeypatch) == 1
    assert "Did you mean 'mgdm'?" in capsys.readouterr().err


def test_help_names_everything_without_loading_pytorch() -> None:
    # Catches: an import of PyTorch on the way to a help text, a version, a completion or cards.
    code = """
import sys
from posteria.cli import main
sys.argv = ["posteria", *sys.argv[1:]]
try:
    main()
finally:
    assert not {"torch", "numpy", "diffusers", "PIL"} & set(sys.modules)
"""
    environment = {**os.environ, "COLUMNS": "200"}

    def call(*words: str, **more: str) -> str:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment | more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    text = call("--help")
    commands = ("restore", "generate", "certify", "list", "cite", "version")
    for word in (*commands, "Exit codes", "130 stopped"):
        assert word in text
    assert call("-h") == text
    assert call("--version").strip() == call("version").strip() == po.__version__
    assert "guided-diffusion" in call("list", "priors")
    for command in ("restore", "generate"):
        text = " ".join(call(command, "-h").split())
        assert "Example: posteria" in text and "3 the samples are not finite" in text
        assert "Samples, such as --samples 16 --seed 100" in text
    completed = call(
        _POSTERIA_COMPLETE="complete_bash", COMP_WORDS="posteria restore --sam", COMP_CWORD="2"
    )
    assert completed.split() == ["--sampler", "--samples"]


def test_a_command_looks_for_garbage_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a run of hours whose cycles are never freed, since `--help` does without.
    found: list[bool] = []
    monkeypatch.setattr(commands, "say", lambda _: found.append(gc.isenabled()))
    assert posteria("version", monkeypatch=monkeypatch) == 0
    assert found == [True]


def test_a_missing_input_is_noticed_before_anything_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from posteria.cli import main
sys.argv = ["posteria", *sys.argv[1:]]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    for words in (
        ["nothing.png"],
        ["--mask", "nothing.png"],
        ["--kernel", "nothing.npy"],
        ["--record", "nothing.json"],
    ):
        command = [sys.executable, "-c", code, "restore", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.startswith(
            "posteria: There is no file nothing."
        )
