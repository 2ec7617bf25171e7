"""Named problems."""
