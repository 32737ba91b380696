"""The re-ranking head: what it looks at, what it makes of it, and how it learns."""
