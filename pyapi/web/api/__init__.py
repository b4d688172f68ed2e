"""One module for each feature that has routes."""
