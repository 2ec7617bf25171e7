"""Print the lowest versions that pyproject.toml allows, as pip's constraints: `python .ci/lowest.py [EXTRA ...]`."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
lowest: dict[str, tuple[int, ...]] = {}


def lines(names: list[str]) -> list[str]:
    """The requirements of extras, with those of the extras that they name."""
    own = [line for name in names for line in extras[name]]
    nested = [re.match(r"posteria\[(.*)\]", line) for line in own]
    return own + [line for found in nested if found for line in lines(found[1].split(","))]


for line in [*project["dependencies"], *lines(sys.argv[1:])]:
    if found := re.match(r"([\w-]+)>=([\d.]+)", line):
        version = tuple(map(int, found[2].split(".")))
        # An extra may ask for more than the package.
        lowest[found[1]] = max(version, lowest.get(found[1], version))
for name, version in lowest.items():
    print(f"{name}=={'.'.join(map(str, version))}")
