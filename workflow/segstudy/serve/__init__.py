"""A web service and a page that predict with trained models; for research use only."""
