"""Samplers that alternate between the prior and the likelihood."""
