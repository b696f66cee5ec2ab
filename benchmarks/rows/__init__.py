"""One function per row: measure it in this process, in a fresh store, and return figures by name.

A function gets where to put its store, how large to do it, and returns plain numbers: seconds, bytes, or rates.
"""
