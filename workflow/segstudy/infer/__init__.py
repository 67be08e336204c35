"""Predict labels with trained networks, for the tested cases of a fold or for any images."""
