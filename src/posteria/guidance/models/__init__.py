"""Rules that use a second model beside the prior."""
