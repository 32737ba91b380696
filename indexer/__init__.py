"""Catalog dump in, published index out."""
