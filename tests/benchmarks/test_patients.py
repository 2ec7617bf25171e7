"""The study of electrocardiograms."""

from pathlib import Path

import pytest
import torch

import patients
from helpers import normal
from leads import SHAPE, TASKS, TWELVE, Baselines
from lib.study import draw, rows
from lib.table import paired


@pytest.fixture(scope="module")
def white() -> Baselines:
    """Fitted to nothing: leads with a covariance at each moment, and none between moments."""
    fitted = Baselines.__new__(Baselines)
    root = normal(8, 8, seed=5)
    fitted.mean, fitted.processes = normal(8, seed=6), {}
    fitted.lags = torch.zeros(2 * SHAPE[1], 8, 8, dtype=torch.float64)
    fitted.lags[0] = root @ root.mT
    return fitted


def test_a_process_without_memory_is_ridge_regression(white: Baselines) -> None:
    # Catches: leads in the place of times, a lag of the wrong sign, noise in other units.
    y = normal(SHAPE[1], seed=7)
    for one, two in zip(white("ridge", "I", y), white("gaussian process", "I", y), strict=True):
        assert one is not None
        assert two is not None
        assert torch.allclose(one, two, atol=1e-8)


def test_what_is_missing_is_what_no_lead_tells() -> None:
    # Catches: III counted as missing where I and II are seen, clipping of one lead that leaves those made of it alone.
    x = torch.zeros(SHAPE)
    assert TASKS["I, II"].missing(x).any(1).tolist() == 6 * [False] + 6 * [True]
    assert TASKS["noise"].missing(x).all()
    x[0, 3] = 0.7
    lost = TASKS["clip"].missing(x)
    assert lost[:, 3].tolist() == (TWELVE[:, 0] != 0).tolist()
    assert int(lost.sum()) == int(lost[:, 3].sum())


def test_differences_are_of_the_patients_that_both_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a mean over easy patients beside one over all, a patient of one source taken for that of another.
    assert paired({1: 2.0, 2: 5.0, 3: 9.0}, {1: 1.0, 2: 2.0, 4: 0.0}) == "2.0 ± 1.0"
    kept = tmp_path / "kept.jsonl"
    names = [(s, i) for s in ("LUDB", "Challenge") for i in range(8)]
    cells = [
        (
            {"study": "patients", "task": "I", "method": method, "source": s, "patient": i},
            lambda value=value: dict.fromkeys(
                ("mae", "median_mae", "crps", "coverage", "f1", "rr", "qrs"), value
            ),
        )
        for method, shift in (("ridge", 0.0), ("daps", 0.5))
        for k, (s, i) in enumerate(names)
        if method == "ridge" or 2 < k < 13
        for value in [k + shift]
    ]
    draw(kept, cells[:5], "mae")
    draw(kept, cells, "mae")
    found = rows(kept, "patients")
    assert len(found) == len(cells)
    of_both = patients.differences(found).splitlines()[-2:]
    same = "| ridge | 0.500 ± 0.000 | 0.500 ± 0.000 | 0 | 0.500 ± 0.000 |"
    assert f"LUDB | daps | 5 {same} 5.50 |" in of_both[0]
    assert f"Challenge | daps | 5 {same} 10.50 |" in of_both[1]
