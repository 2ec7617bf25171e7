"""The pages that show the kept results: `make site`."""
