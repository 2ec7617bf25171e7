"""Where the command line starts: what is imported here is imported before an interrupt is a sentence."""

import gc
import signal
import sys

from .codes import STOPPED


def main() -> None:
    """Run the command line; an error that a user can act on is one sentence and a non-zero exit code."""
    # A scheduler of a cluster ends a run by SIGTERM: the record then says that it was stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Imports leave no garbage, and to look for it takes a tenth of `posteria --help`; a command enables it again.
    gc.disable()
    try:
        from .app import run

        run()
    except KeyboardInterrupt:
        _stop()
    except SystemExit as end:
        # Typer makes an interrupt a code.
        if end.code == STOPPED:
            _stop()
        raise


def _stop() -> None:
    print("posteria: stopped; the same command goes on from here.", file=sys.stderr)
    sys.exit(STOPPED)
