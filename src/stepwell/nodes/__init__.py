"""The code behind the `type` of a graph's nodes: one file per node type."""
