"""How fast is it, beside what the same machine can do at all? `python -m benchmarks` measures and prints a table.

Every figure stands beside bare SQLite, measured immediately before it: machines differ, and so do minutes on one
machine. Each sample has a fresh store, and a fresh process of its own. Nothing here is a test and nothing asserts
speed: the table says whether a budget holds.
"""
