"""The tempered sampler."""
