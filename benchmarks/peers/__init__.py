"""The same shapes in other libraries, each in a virtual environment of its own that its script makes."""
