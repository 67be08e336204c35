"""Statistics: summaries, tests and ranks of the models from the tables of metrics."""
