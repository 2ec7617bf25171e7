"""What the study of photographs measures beside a picture, and its tables."""
