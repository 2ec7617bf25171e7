"""Samplers that correct the iterate or its estimate towards the measurement."""
