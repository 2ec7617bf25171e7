"""The jobs that a person asks for, one a command: restore, generate, certify."""
