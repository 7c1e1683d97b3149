"""The demo: game purchases to score, the script that trains the model, and the script to compare with."""
