"""Where the command line starts: what is imported here is imported before an interrupt is a sentence."""

import sys


def main() -> None:
    """Run the command line; an error that a user can act on is one sentence and a non-zero exit code."""
    try:
        from .app import run

        run()
    except KeyboardInterrupt:
        print("posteria: stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
