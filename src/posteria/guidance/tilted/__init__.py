"""Rules of classifier-free guidance."""
