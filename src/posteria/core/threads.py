"""How PyTorch's threads wait for one another; nothing here imports PyTorch."""

import os


def wait_briefly() -> None:
    """Let waiting threads sleep soon, unless the environment says otherwise; to be called before PyTorch is imported.

    By default they spin. Where another process has one of the cores they use up its time, and a small network then
    runs 60 times slower than on one thread. With a short spin it runs 3 times slower, and no slower than before
    where all cores are free.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
