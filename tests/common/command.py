"""The command line, called in this process."""

import gc
import sys
from pathlib import Path

import pytest

from posteria import cli
from posteria.priors import SHIPPED

QUICK = ["--sampler", "dps", "--steps", "4", "--samples", "3", "--chunk", "2"]

DIGIT = SHIPPED["digits"].examples[1]
# What simulates a measurement of it; a later --task is the one that counts.
SIMULATED = [DIGIT, "--simulate", "--prior", "digits", "--task", "inpaint"]


def posteria(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["posteria", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        gc.enable()
    return 0


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
