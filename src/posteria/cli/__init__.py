"""The command line: words to a request, and results to the terminal."""

from .start import main as main
