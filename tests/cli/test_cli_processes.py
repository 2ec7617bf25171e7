"""The process itself: interrupts, and an end at any time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from common.checkpointed import checkpointed
from common.command import SIMULATED


@pytest.mark.parametrize(
    "when", ["at the start", "while it loads", "while it draws", "by a scheduler"]
)
def test_an_interrupt_is_one_line_at_any_time(when: str, tmp_path: Path) -> None:
    # Catches: a traceback at the start, a silent end, a record that says "running" for ever.
    out = tmp_path / "run"
    code = "from posteria.cli import main; print('here', flush=True); main()"
    words = [
        "restore",
        *map(str, SIMULATED),
        "--sampler",
        "mgps",
        "--steps",
        "500",
        "--out",
        str(out),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'posteria'; {code}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job ignores interrupts, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.time() + 120
    drawing = when in {"while it draws", "by a scheduler"}
    while drawing and not (out / "input.npz").exists() and time.time() < deadline:
        time.sleep(0.01)
    time.sleep({"at the start": 0.1, "while it loads": 0.7}.get(when, 0.3))
    process.send_signal(signal.SIGTERM if when == "by a scheduler" else signal.SIGINT)
    _, error = process.communicate(timeout=120)
    # Where SIGINT comes while a module makes code of a text, Python ends by the signal itself, for
    # which a shell says 130 as well.
    assert process.returncode in {130, -signal.SIGINT}, error
    lines = [line for line in error.splitlines() if "%" not in line]
    assert lines == ["posteria: stopped; the same command goes on from here."]
    if drawing:
        assert json.loads((out / "run.json").read_text())["status"] == "stopped"
        assert not list(out.glob(".*"))


def test_sigkill_at_any_time_leaves_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: anything that lives in memory only, a file written in place.
    words = ["restore", *SIMULATED, "--sampler", "mgps", "--steps", "16", "--samples", "4"]
    words += ["--set", "inner=InnerSteps(3)", "--chunk", "2", "--out"]
    # Processes of their own, of a server that has loaded PyTorch once for all of them.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([
        "posteria.runs.jobs.restore",
        "diffusers.models.unets.unet_2d",
    ])

    def start(out: Path) -> BaseProcess:
        process = context.Process(target=checkpointed, args=([*map(str, words), str(out)], log))
        process.start()
        return process

    def end(process: BaseProcess) -> int | None:
        process.join()
        return process.exitcode

    log = tmp_path / "log"
    assert end(start(tmp_path / "whole")) == 0, log.read_text()
    whole = np.load(tmp_path / "whole" / "samples.npz")["samples"]
    out = tmp_path / "killed"
    for checkpoint in ("chunks/00000.state", "chunks/00000.pt", "chunks/00001.state"):
        process = start(out)
        deadline = time.time() + 120
        while not (out / checkpoint).exists() and process.is_alive() and time.time() < deadline:
            time.sleep(0.01)
        process.kill()
        assert end(process) == -signal.SIGKILL, log.read_text()
    assert not (out / "samples.npz").exists()
    assert end(start(out)) == 0, log.read_text()
    assert np.array_equal(np.load(out / "samples.npz")["samples"], whole)
