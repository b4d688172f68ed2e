"""The HTTP face: the application, its middleware and its routes."""
