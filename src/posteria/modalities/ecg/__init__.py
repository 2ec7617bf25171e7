"""Electrocardiograms."""

from .modality import ECG as ECG
