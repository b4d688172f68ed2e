"""Moves what a record's source holds into its target. Imported when a task runs, never where DAGs are read."""
