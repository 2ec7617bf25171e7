"""Runs: a request, chunks of seeds, a folder that survives being killed, and what is shown of it."""
