"""The tables of docs/photographs.md from the rows of its study."""

import math
from collections.abc import Iterable, Mapping, Sequence

from lib.study import Row, by_method, common
from lib.table import Table, average, paired

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
# By picture.
Rows = dict[str, Row]


def single(row: Row) -> bool:
    """Whether it is of one estimate, whose two PSNRs are the same up to rounding."""
    return abs(row["psnr"] - row.get("sample_psnr", math.inf)) < 1e-4


def many(row: Row) -> Row:
    """With the PSNR that the mean of many samples would have: of two it has half of their variance too much.

    What is one estimate has none.
    """
    if single(row):
        return row
    of_two, of_one = (10 ** (-row[key] / 10) for key in ("psnr", "sample_psnr"))
    left = 2 * of_two - of_one
    return row | ({"many": -10 * math.log10(left)} if left > 0 else {})


def alone(row: Row) -> Row:
    """One estimate stands for a mean of many, too."""
    return {"many": row["psnr"]} if single(row) else {}


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
    denoised, sections = [], []
    for level in levels:
        found = common(_rows(kept, "denoise", str(level), DENOISERS))
        means = [_means(found.get(m, {}).values(), {"psnr": ("", 2)})[0] for m in DENOISERS]
        denoised.append([f"{level} ({_count(found)} pictures)", *means])
    # A method that was drawn for a few stands among the differences alone.
    alike = [method for method in methods if "," not in method or "deepinv" in method]
    header = ["method", *(label for label, _ in COLUMNS.values())]
    for task, words in about.items():
        found = common(_rows(kept, "restore", task, alike))
        if _count(found) > 1:
            title = f"{words[0].upper()}{words[1:]} ({_count(found)} pictures)"
            lines = [[m, *_means(map(many, of.values()), COLUMNS)] for m, of in found.items()]
            sections.append(Table(title, header, lines).markdown())
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
        found = {
            method: {picture: many(row) | alone(row) for picture, row in of.items()}
            for method, of in _rows(kept, "restore", task, [usual, *OTHERS]).items()
        }
        ours, line = found.pop(usual, {}), [words]
        for method in OTHERS:
            theirs = {p: row for p, row in found.get(method, {}).items() if p in ours}
            both = [paired(_of(ours, key), _of(theirs, key), 2) for key in ("psnr", "many")]
            line.append("-" if both[0] == "-" else f"{both[0]}; {both[1]} ({len(theirs)})")
        lines.append(line)
    return Table("", ["", *OTHERS], lines).markdown()


def _rows(kept: Sequence[Row], study: str, task: str, methods: Sequence[str]) -> dict[str, Rows]:
    """Rows by method and picture, of methods that have any."""
    found = by_method(kept, "picture", "psnr", study=study, task=task)
    return {method: found[method] for method in methods if method in found}


def _of(found: Rows, key: str) -> dict[str, float]:
    return {picture: row[key] for picture, row in found.items() if key in row}


def _count(found: Mapping[str, Rows]) -> int:
    return len(next(iter(found.values()), {}))


def _means(found: Iterable[Row], columns: Mapping[str, tuple[str, int]]) -> list[str]:
    rows = list(found)
    return [
        average((row.get(key) for row in rows), digits) for key, (_, digits) in columns.items()
    ]
