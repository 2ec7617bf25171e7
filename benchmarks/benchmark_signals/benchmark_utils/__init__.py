"""What the parts of this benchmark share; `lib`, which all benchmarks share, is found from here."""

import sys
from pathlib import Path

from posteria.core.threads import wait_briefly

# Before PyTorch is imported.
wait_briefly()
sys.path.append(str(Path(__file__).resolve().parents[2]))
