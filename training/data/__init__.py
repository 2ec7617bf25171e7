"""What the shipped priors are trained on, and what is held out."""
