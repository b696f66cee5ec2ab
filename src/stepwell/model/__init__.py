"""What a run is, as pure data and pure functions: no clock, no chance, no I/O."""
