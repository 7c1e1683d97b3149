"""Where batches come from: one module a system."""
