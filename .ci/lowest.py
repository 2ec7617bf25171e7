"""Print the lowest versions that pyproject.toml allows, as pip's constraints: `python .ci/lowest.py [EXTRA ...]`."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"], *(line for name in sys.argv[1:] for line in extras[name])]
# Of several bounds of one package the last counts: that of an extra.
bounds = dict(found.groups() for line in wanted if (found := re.match(r"([\w-]+)>=([\w.]+)", line)))
print("\n".join(f"{name}=={version}" for name, version in bounds.items()))
