"""When a record runs: its rule, its next runs and their words. Pure functions; the reader kit ships them too."""
