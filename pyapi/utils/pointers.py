"""JSON Pointers (RFC 6901)."""


def escape(part: str) -> str:
    """One part of a pointer, so that a slash in a name separates nothing."""
    return part.replace("~", "~0").replace("/", "~1")
