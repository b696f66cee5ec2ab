"""What node types share: rules, settings, errors, and the ways of an HTTP request."""
