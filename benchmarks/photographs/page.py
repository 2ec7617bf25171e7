"""The tables of docs/photographs.md from the rows of its study."""

import math
import statistics
from collections.abc import Mapping, Sequence

from lib.study import Row
from lib.table import Table, error_of, paired

DENOISERS = ("photo", "photo-bf", "FFDNet")
COLUMNS = {
    "psnr": ("PSNR of the mean", 2),
    "many": ("of that of many", 2),
    "ssim": ("SSIM", 3),
    "sample_psnr": ("PSNR of a sample", 2),
    "features": ("feature distance of a sample", 2),
    "residual": ("residual", 2),
    "truth": ("that of the truth", 2),
    "coverage": ("coverage", 2),
    "spread": ("spread / error", 2),
    "evaluations": ("evaluations", 0),
    "vjps": ("vjps", 0),
    "seconds": ("seconds", 0),
}
# What the usual sampler of photographs is compared with; deepinv's are with the same denoiser.
OTHERS = ("total variation", "DPIR, deepinv", "DiffPIR, deepinv", "mmps, photo-bf", "by hand")
# Of one task it has another.
USUAL = {"noise": "reverse"}
Rows = dict[str, dict[str, Row]]


def single(row: Row) -> bool:
    """Whether it is of one estimate, whose two PSNRs are the same up to rounding."""
    return abs(row["psnr"] - row.get("sample_psnr", math.inf)) < 1e-4


def many(row: Row) -> Row:
    """With the PSNR that the mean of many samples would have: of two it has half of their variance too much."""
    if single(row):
        return row | {"many": row["psnr"]}
    of_two, of_one = (10 ** (-row[key] / 10) for key in ("psnr", "sample_psnr"))
    left = 2 * of_two - of_one
    return row | ({"many": -10 * math.log10(left)} if left > 0 else {})


def tables(
    kept: Sequence[Row], levels: Sequence[int], about: Mapping[str, str], methods: Sequence[str]
) -> dict[str, str]:
    """The parts of the page, by their marks; the rows of a table are of the same pictures.

    Args:
        kept: Rows of both studies.
        levels: Of the noise of `denoise`, of 255.
        about: Tasks, in words.
        methods: Of `restore`, in the order in which they are shown.
    """
    denoised = []
    for level in levels:
        found, count = _common(_of(kept, "denoise", str(level), DENOISERS))
        denoised.append([
            f"{level} ({count} pictures)",
            *(_mean(found.get(m, []), "psnr", 2) for m in DENOISERS),
        ])
    sections = []
    for task, words in about.items():
        # A method that was drawn for a few stands among the differences alone.
        found, count = _common(
            _of(kept, "restore", task, [m for m in methods if "," not in m or "deepinv" in m])
        )
        if count < 2:
            continue
        lines = [
            [
                method,
                *(
                    _mean([_alone(row) for row in rows], key, digits)
                    for key, (_, digits) in COLUMNS.items()
                ),
            ]
            for method, rows in found.items()
        ]
        header = ["method", *(label for label, _ in COLUMNS.values())]
        sections.append(
            Table(f"{words[0].upper()}{words[1:]} ({count} pictures)", header, lines).markdown()
        )
    return {
        "denoising": Table("", ["noise, of 255", *DENOISERS], denoised).markdown(),
        "differences": _differences(kept, about),
        "restoring": "\n\n".join(sections),
    }


def _differences(kept: Sequence[Row], about: Mapping[str, str]) -> str:
    """The PSNR of the usual sampler less that of others: of the mean of two, and of that of many."""
    lines = []
    for task, words in about.items():
        usual = USUAL.get(task, "mmps")
        found = _of(kept, "restore", task, [usual, *OTHERS])
        ours = {p: many(row) for p, row in found.pop(usual, {}).items()}
        line = [words]
        for method in OTHERS:
            theirs = {p: many(row) for p, row in found.get(method, {}).items() if p in ours}
            both = [
                paired(
                    {
                        p: row[key]
                        for p, row in ours.items()
                        if key in row and key in theirs.get(p, {})
                    },
                    {p: row[key] for p, row in theirs.items() if key in row},
                    2,
                )
                for key in ("psnr", "many")
            ]
            line.append("-" if both[0] == "-" else f"{both[0]}; {both[1]} ({len(theirs)})")
        lines.append(line)
    return Table("", ["", *OTHERS], lines).markdown()


def _of(kept: Sequence[Row], study: str, task: str, methods: Sequence[str]) -> Rows:
    """Rows by method and picture, of methods that have any."""
    found = {
        method: {
            row["picture"]: row
            for row in kept
            if (row["study"], row["task"], row["method"]) == (study, task, method)
            and "psnr" in row
        }
        for method in methods
    }
    return {method: rows for method, rows in found.items() if rows}


def _common(found: Rows) -> tuple[dict[str, list[Row]], int]:
    """The rows of the pictures that all have, and how many these are."""
    pictures = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {method: [rows[p] for p in pictures] for method, rows in found.items()}, len(pictures)


def _alone(row: Row) -> Row:
    """As it is shown beside others: what is one estimate has no mean of many."""
    return row if single(row) else many(row)


def _mean(found: Sequence[Row], metric: str, digits: int) -> str:
    values = [row[metric] for row in found if metric in row]
    if len(values) < 2:
        return "-"
    return f"{statistics.fmean(values):.{digits}f} ± {error_of(values):.{digits}f}"
