"""What a run says of its samples stands in its record, also where it was stopped or grew."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import posteria as po
from posteria.core.record import from_json
from posteria.runs import engine
from posteria.runs.job import run
from posteria.runs.jobs import restore
from posteria.runs.request import Restore
from posteria.runs.store import Store
from posteria.samplers.diagnostics import Diagnostics

SAMPLER = po.samplers.TDS(particles=4, schedule=po.Karras(steps=3))


def record(folder: Path, samples: int) -> dict[str, Any]:
    request = Restore(prior="digits", sampler=repr(SAMPLER), samples=samples, chunk=4)
    run(restore.prepare(request), Store(folder))
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["results"]["diagnostics"]
    return found


def test_a_run_says_what_python_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: what is said of a population lost with its chunk, or with the run that grew from it.
    whole = record(tmp_path / "whole", 8)
    request = Restore(prior="digits", sampler=repr(SAMPLER), samples=8)
    target = restore.prepare(request).target
    parts = [SAMPLER.run(target, range(start, start + 4)) for start in (0, 4)]
    for name in ("ess", "ancestors"):
        values = [float(getattr(part, name)) for part in parts]
        assert whole[name] == pytest.approx(values)
    assert whole["chains"] == 2 and whole["particles"] == 4 and whole["lost"] == 0
    # Populations of so few steps stand still, apart; an infinite number is null in JSON, and infinite when it is read.
    assert whole["rhat"] is None and len(whole["expected"]) == 2
    read = from_json(Diagnostics, whole)
    assert read.rhat == math.inf and "populations disagree (split R-hat inf)" in read.warnings()[0]
    page = (tmp_path / "whole" / "report.html").read_text()
    assert read.warnings()[0] in page
    assert "ancestors" in page and "exact samples: 0.9" in page
    record(tmp_path / "grown", 4)
    assert record(tmp_path / "grown", 8) == whole

    class Killed(Exception):
        pass

    draw_chunk = engine.draw_chunk

    def stopped(method: Any, part: engine.Chunk, *rest: Any) -> Any:
        if part.index == 1:
            raise Killed
        return draw_chunk(method, part, *rest)

    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(engine, "draw_chunk", stopped)
        record(tmp_path / "killed", 8)
    assert record(tmp_path / "killed", 8) == whole
