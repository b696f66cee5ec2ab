"""What can be asked of Stepwell, one file per group of use cases; `stepwell.app` puts them together."""
