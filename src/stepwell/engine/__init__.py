"""What drives runs: clock, runner, executor, scheduler, limits, feed."""
