"""What `posteria restore` takes where a request names no prior, task or sampler."""

from typing import Any

# What `posteria restore` shows where it is given nothing to restore, and the prior of what it is given.
PHOTOGRAPHS = "photo"
DEMONSTRATION = {"prior": PHOTOGRAPHS, "task": "sr"}
# Priors of other files than pictures.
PRIORS = {
    **dict.fromkeys((".hea", ".edf"), "ecg"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"), "stems"),
}
# The sampler where none is named, of some priors, of a task of theirs, and of all others.
# Of photographs: its error is the least of those in docs/photographs.md, or nearly, and its spread is near to that;
# none was found for the modulus of a Fourier transform.
# Of ECGs: see docs/ecg.md.
GENERAL = "mgdm"
SAMPLERS: dict[str | tuple[str, str], dict[str, Any]] = {
    PHOTOGRAPHS: {"sampler": "mmps", "settings": {"solver": "'gmres'"}, "steps": 16},
    "ecg": {
        "sampler": "mmps",
        "settings": {
            "solver": "'gmres'",
            # From a level that hides an ECG to one far below its noise, in mV.
            "schedule": "Karras(steps=25, sigma_min=0.02, sigma_max=3.0)",
        },
        "steps": 25,
    },
    ("ecg", "gap"): {"sampler": "daps", "steps": 100},
    # The general one leaves the range of pictures in a hole (docs/satellite.md).
    "satellite": {"sampler": "daps", "steps": 100},
    # The nearest to songs that nobody was trained on (docs/music.md).
    "stems": {"sampler": "ddrm", "steps": 100},
}
LEFT_OUT = {
    PHOTOGRAPHS: {"phase"},
    # What is not linear.
    "stems": {"declip"},
}
