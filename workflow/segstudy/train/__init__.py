"""Train one network on one fold, from prepared cases to weights."""
