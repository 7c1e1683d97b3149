"""Speed, measured side by side in one run: `make bench`. No test asserts on any of it."""
