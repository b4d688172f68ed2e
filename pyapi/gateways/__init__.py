"""Systems outside of the database."""
