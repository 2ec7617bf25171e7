"""Samplers that fit a Gaussian to each conditional by variational inference."""
