"""The exit codes."""

# What a run whose samples are not finite ends with.
DIVERGED = 3
# What a shell gives for a process that SIGINT ended.
STOPPED = 130
IN_WORDS = (
    "Exit codes: 0 done, 1 an error that the sentence on standard error explains, 2 wrong usage, "
    f"{DIVERGED} the samples are not finite, {STOPPED} stopped."
)
