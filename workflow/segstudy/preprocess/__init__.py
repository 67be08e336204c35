"""Preprocessing: splits, fingerprints, plans, prepared cases."""
