"""`python -m posteria`."""

from .cli import main

main()
