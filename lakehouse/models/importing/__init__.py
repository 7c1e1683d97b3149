"""A model's classic file, such as a pickle, becomes a registered MLflow model.

`files` says what a file holds without loading it, `pickles` does so for pickles; only then is it opened (`opening`),
given its features from a table (`features`), tried, saved and compared (`registering`), and registered (`publishing`).
"""
