"""The front door: the public API, the command line."""
