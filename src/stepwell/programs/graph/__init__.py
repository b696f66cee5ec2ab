"""A graph in execution: tokens on edges, firings of nodes, frames of bodies; the turns are those of any program."""
