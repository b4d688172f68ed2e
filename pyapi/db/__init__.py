"""PostgreSQL: tables, statements, connections and transactions."""
