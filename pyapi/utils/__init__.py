"""Pure functions about tokens, passwords and credentials; and who is calling."""
