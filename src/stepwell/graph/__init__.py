"""Graphs as data: what an author wrote (definition), what is wrong with it (problems), what the engine runs (plan)."""
