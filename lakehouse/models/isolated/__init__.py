"""Models in environments of their own: what a model asks for, built once, and the process that it runs in there."""
