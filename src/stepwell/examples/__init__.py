"""Programs that show Stepwell at work, shipped with it: `stepwell demo` runs one."""
