"""Media in, unit vectors out. Knows nothing of catalogs or indexes."""
