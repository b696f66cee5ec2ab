"""Standing rules that start runs: when, and how often."""
