"""Query in, explained hits out."""
