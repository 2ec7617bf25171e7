"""Sound: files, measurements, spectrograms and players."""

from .modality import Audio as Audio
