"""How PyTorch's threads wait for one another; imported before PyTorch is."""

import os

# They spin. Where another process has one of the cores they spin its time away as well, and a small
# network then runs 60 times slower than on one thread. With a short spin it runs 3 times slower,
# and no slower than before where all cores are free.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
