"""A module that reads the clock when it is imported."""

import time

LOADED = time.time()
