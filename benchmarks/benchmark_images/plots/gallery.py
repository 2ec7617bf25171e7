"""What the samples look like."""

from typing import Any

import numpy as np
from benchopt import BasePlot
from typing_extensions import override

from lib.plots import chosen
from lib.show import short

SHOWN = {"four samples": "samples", "mean": "mean", "standard deviation": "std"}


def indices(df: Any) -> list[int]:
    """The places of the pictures that were kept."""
    kept = [len(found) for found in df["final_results"] if isinstance(found, list)]
    return list(range(max(kept, default=1)))


def shares(image: Any) -> Any:
    """Bytes as benchopt's pages take them, numbers from 0 to 1; of several pictures a square."""
    if isinstance(image, list):
        padded = [*image, *[np.full_like(image[0], 255)] * (-len(image) % 4)]
        rows = [np.concatenate(padded[k : k + 2], axis=1) for k in range(0, len(padded), 2)]
        image = np.concatenate(rows, axis=0)
    return np.asarray(image, dtype=np.float64) / 255


class Plot(BasePlot):
    """The truth, the measurement, and a card for each solver at its largest budget, nearest samples first."""

    name = "Gallery"
    type = "image"
    options = {"dataset": ..., "objective": ..., "picture": indices, "shown": list(SHOWN)}

    @override
    def plot(
        self, df: Any, dataset: str, objective: str, picture: int, shown: str
    ) -> list[dict[str, Any]]:
        df = chosen(df, dataset_name=dataset, objective_name=objective)
        rows = [
            (short(row["solver_name"]), row["objective_psnr"], row["final_results"][picture])
            for _, row in df.sort_values("objective_distance").iterrows()
            if row["idx_rep"] == 0
            and isinstance(row["final_results"], list)
            and picture < len(row["final_results"])
        ]
        if not rows:
            return []
        first = rows[0][2]
        cards = [
            {"image": shares(first[key]), "label": key}
            for key in ("truth", "measurement")
            if key in first
        ]
        for name, psnr, found in rows:
            label = f"{name} ({psnr:.1f} dB)"
            cards.append({"image": shares(found[SHOWN[shown]]), "label": label})
        return cards

    @override
    def get_metadata(
        self, df: Any, dataset: str, objective: str, picture: int, shown: str
    ) -> dict[str, Any]:
        about = "; pale yellow is 1, pictures span 2" if shown == "standard deviation" else ""
        return {"title": f"{dataset}: {shown}{about}", "ncols": 6}
