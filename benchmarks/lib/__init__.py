"""What the benchmarks of `benchmarks/` share; recipes, which say what was held out, are found from here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "training"))
