"""Where scored files are published: one module a system."""
