"""What the rules ask of a study: paths of the results, inputs, settings, resources, targets and code digests.

Nothing here knows of Snakemake, so all of it is tested without.
"""
