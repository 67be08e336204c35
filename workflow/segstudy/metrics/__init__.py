"""Metrics: predictions compared with references, a row a structure and metric."""
