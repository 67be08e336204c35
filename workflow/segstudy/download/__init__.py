"""Download: fetching a dataset, listing its cases by layout, auditing every image and label."""
