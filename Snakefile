# Lets `snakemake` run from the repository's root; the workflow itself is in workflow/.
include: "workflow/Snakefile"


# `include` does not carry the default target over.
rule default:
    default_target: True
    input:
        rules.all.input,
    localrule: True
