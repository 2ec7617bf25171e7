"""What the parts of the benchmark of guidance share."""
