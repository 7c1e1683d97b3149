"""Models in environments of their own."""
