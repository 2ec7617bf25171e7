"""What a test runs in a process of its own; it imports little."""

import os
import sys
from pathlib import Path


def checkpointed(words: list[str], log: Path) -> None:
    """The command line, with a checkpoint of every step and its output at the end of a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    from posteria.cli import main
    from posteria.runs import engine

    engine.CHECKPOINT_EVERY = 0.0
    sys.argv = ["posteria", *words]
    main()
