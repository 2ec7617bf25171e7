"""What the exports of local networks share: weights in half precision, their configuration, hash and training curve."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from posteria.priors.card import file_sha256


def write_network(run: Path, out: Path, card: str, **config: Any) -> str:
    """Write `network.safetensors`, `network.json` and `card.toml`; returns the SHA-256 of the weights.

    Args:
        run: The folder that a training wrote.
        out: The folder to ship.
        card: `card.toml`, with `{sha256}` in it.
        config: `network.json`: the kind of network and its arguments, and what `read_local` reads beside them.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["ema"]
    weights = out / "network.safetensors"
    half = {key: value.half().contiguous() for key, value in state.items()}
    save_file(half, weights, metadata={"format": "pt"})
    (out / "network.json").write_text(json.dumps(config) + "\n")
    sha256 = file_sha256(weights)
    (out / "card.toml").write_text(card.format(sha256=sha256))
    return sha256


def read_log(run: Path) -> list[dict[str, Any]]:
    """What was measured as training went on."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def curve(log: Sequence[dict[str, Any]], what: str, columns: Sequence[str], key: str) -> str:
    """A table in Markdown of at most eight rows of a log.

    Args:
        log: As `read_log` gives it.
        what: Of what so many were seen.
        columns: What the numbers are.
        key: Of the numbers in a row.
    """
    shown = [*log[:: max(1, len(log) // 6)], log[-1]]
    rows = [f"| {row['seen']} | {' | '.join(f'{v:.1f}' for v in row[key])} |" for row in shown]
    return "\n".join([
        f"| {what} | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *rows,
    ])
