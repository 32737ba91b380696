"""One module for each library. They run in its environment: nothing here imports Catalens's own."""
