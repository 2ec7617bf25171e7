"""What the parts of the benchmark of pictures share."""
