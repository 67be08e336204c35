"""Review of labels: which to look at, how to correct them, and what corrections do to the results."""
