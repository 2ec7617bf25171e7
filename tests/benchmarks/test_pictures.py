"""The study of samplers at picture size."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pictures


def test_a_row_is_what_was_measured() -> None:
    # Catches: a sampler that is compared with the posterior of another truth.
    row = pictures.draw("sr4", 1, "mmps", 60, 16, 0.1)
    assert row["evaluations"] + row["vjps"] <= 60 and row["note"].startswith("MMPS(")
    exact, prior = (
        pictures.draw("sr4", 1, f"{law} draws", 60, 16, 0.1) for law in ("exact", "prior")
    )
    assert exact["ratio"] < 1.5 < row["ratio"] < prior["ratio"]
    assert "too small" in pictures.draw("sr4", 1, "dcps", 4, 16, 0.1)["note"]


def of_few_dimensions() -> pd.DataFrame:
    """Results of `mmps`, right on one law and with wrong weights on the other, and of `daps`, right on the other."""
    of_modes = {"mmps": (1.1, 1.0, 0.04), "daps": (1.1, 2.0, 0.0), "exact draws": (1.0, 1.0, 0.01)}
    plain = {"mmps": (1.5, 1.0, math.nan), "daps": (1.2, 1.0, math.nan)}
    return pd.DataFrame([
        {
            "dataset_name": f"toy[{problem}]",
            "solver_name": f"{'reference' if name == 'exact draws' else 'posteria'}[{name}]",
            "stop_val": 2000,
            "sampling_strategy": "Run_once" if name == "exact draws" else "Iteration",
            "idx_rep": 0,
            "objective_ratio": ratio,
            "objective_variance_ratio": variance,
            "objective_mode_weight_error": weights,
            "objective_mean_error": 0.0,
            "objective_coverage_90": 0.9,
            "objective_log_evidence_error": math.nan,
        }
        for problem, found in (("gmm25-8-1", of_modes), ("radius", plain))
        for name, (ratio, variance, weights) in found.items()
    ])


def test_the_page_says_who_is_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a sampler that is certified by the truths at which it did not fail.
    good = {
        "ratio": 1.1,
        "variance_ratio": 1.0,
        "mode_weight_error": 0.1,
        "floor_weights": 0.08,
    }
    changes: dict[str, dict[str, float]] = {
        "mmps": {},
        "daps": {"variance_ratio": 2.0},
        "dps": {"mode_weight_error": 0.3},
        "sda": {"ratio": 1.4},
    }
    size = {"budget": 400, "n": 32, "std": 0.1}
    rows: list[dict[str, Any]] = [
        {"truth": truth, "task": "box", "sampler": name, **size, **good, **change}
        for name, change in changes.items()
        for truth in range(2)
    ]
    rows.append({"truth": 0, "task": "box", "sampler": "pigdm", **size, **good})
    rows.append({"truth": 1, "task": "box", "sampler": "pigdm", **size, "note": "It diverged."})
    whole = {
        "truth": 0,
        "task": "box",
        "sampler": "tempered",
        "budget": 2000,
        "n": 256,
        "std": 0.1,
    }
    rows.append(whole | good | {"ratio": 1.02})
    rows.append(whole | good | {"ratio": 1.07, "std": 0.05})
    rows.append(rows[0] | {"ratio": 9.0, "std": 0.3})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "pictures.md").write_text(
        "<!-- pictures -->\n<!-- /pictures -->\n<!-- tempered -->\n<!-- /tempered -->\n"
        "<!-- alone -->\n<!-- /alone -->\n"
    )
    (tmp_path / "samplers.md").write_text("<!-- sizes -->\n<!-- /sizes -->\n")
    monkeypatch.setattr(pictures, "read", lambda _: {"exact": of_few_dimensions()})
    tested = [{"name": f"projection {i}", "adjusted": [1.0, p]} for i, p in enumerate((0.02, 0.5))]
    certificates = [
        {
            "plan": {"prior": prior, "task": task, "sampler": f"{kind}(order=2)"},
            "certificate": {"statistics": tested, "level": level, "simulations": 40},
        }
        for prior, task, kind, level in (
            ("digits", "sr", "MMPS", 0.01),
            ("digits", "inpaint", "MMPS", 0.03),
            ("digits-mixture", "sr", "DAPS", 0.01),
        )
    ]
    (tmp_path / "certificates.json").write_text(json.dumps(certificates))
    monkeypatch.setattr(pictures, "CERTIFICATES", tmp_path / "certificates.json")
    monkeypatch.setattr(pictures, "KEPT", tmp_path / "rows.jsonl")
    monkeypatch.setattr("lib.study.DOCS", tmp_path)
    pictures.page()
    text = (tmp_path / "pictures.md").read_text()
    assert "| mmps | **1.10** |" in text and "| sda | 1.40 |" in text
    assert "| daps | 1.10 |" in text and "| dps | 1.10 |" in text and "| pigdm | - |" in text
    sizes = (tmp_path / "samplers.md").read_text()
    assert "| mmps | gmm25-8-1 | box 1.10 (1.00) | none | sr4 (40) |" in sizes
    assert "| daps | radius | none | box 1.10 (2.00) |  |" in sizes
    assert "| pigdm |  | none | box - (-) |  |" in sizes
    assert "| tempered, 256 particles, 2000 |  | box 1.02 (1.00) | none |  |" in sizes
    # Catches: samples of a larger budget among those of the smaller one, other noises among those of the usual one.
    assert "| box | 0.1 | tempered | 1.02 |" in text and "| box | 0.05 | tempered | 1.07 |" in text
    assert "| tempered | 1.02 |" in text and "| tempered | **" not in text
    assert math.isnan(pictures.mean([], "ratio"))
