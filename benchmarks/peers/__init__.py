"""Catalens beside other vector search libraries: the same vectors, queries, core and minutes."""
