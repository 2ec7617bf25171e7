"""Readers of priors: one for each kind of files that a prior comes in."""

from .registry import READERS as READERS, Reader as Reader
