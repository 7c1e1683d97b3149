"""The demo: game purchases to score, the script that trains the model, and the script to compare with.

It stands for a user's own code, so it may import MLflow and Spark itself. Nothing else in the package imports it but
the command line.
"""
