"""What everything else stands on: errors, event spaces, derivatives, and one random stream per sample."""
