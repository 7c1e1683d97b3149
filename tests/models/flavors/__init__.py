"""Each flavour's real library: models trained, logged as tutorials do, scored, and held against the library itself."""
