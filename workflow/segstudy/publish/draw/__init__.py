"""Drawing: each kind of figure by its own function."""
