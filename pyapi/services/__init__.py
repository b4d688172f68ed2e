"""The rules of the domain; nothing here knows of HTTP."""
