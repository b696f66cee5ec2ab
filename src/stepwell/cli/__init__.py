"""The command line: one module per command here, and in `parts` what they share."""
