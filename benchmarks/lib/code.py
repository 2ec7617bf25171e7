"""A hash of the code that a result depends on."""

import hashlib
from pathlib import Path

import posteria

PACKAGE, LIBRARY = Path(posteria.__file__).parent, Path(__file__).parent
# What only shows results, or is of the studies beside the suites, does not change them.
SHOWS = {"asked.py", "plots.py", "show.py", "study.py", "table.py", "targets.py"}
DIGITS = 16


def code_hash(*folders: str | Path) -> str:
    """16 hexadecimal digits that change when the package changes, or the `benchmark_utils` of a benchmark in `folders`.

    Benchopt keeps results by the text of objectives, datasets and solvers, and does not see what they
    import. With this as a parameter of the objective, an edit of the package or of this folder makes
    them out of date, and so do other weights of its priors.
    """
    roots = [PACKAGE, LIBRARY, *(Path(folder) / "benchmark_utils" for folder in folders)]
    digest = hashlib.sha256()
    for number, root in enumerate(roots):
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            if root == LIBRARY and name in SHOWS:
                continue
            content = path.read_bytes()
            digest.update(f"{number} {len(name)} {name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()[:DIGITS]
