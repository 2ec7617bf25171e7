"""What the parts of this benchmark share; `lib`, which all benchmarks share, is found from here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
