# Labels that were corrected by hand: what became of each, and what that did to the results.


rule review_labels:
    input:
        cases=PATHS.cases(),
        labels=PATHS.label_list(),
        records=lambda w: INPUTS.records(w.dataset),
    output:
        PATHS.provenance(),
    log:
        PATHS.log("review", "{dataset}-labels"),
    benchmark:
        PATHS.benchmark("review", "{dataset}-labels")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 500 + 4 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 10 + 0.02 * RESOURCES.all_mb(w.dataset)),
    params:
        records=lambda w: INPUTS.records_option(w.dataset),
        state=lambda w: state_of(INPUTS.records(w.dataset)),
        labels=lambda w: INPUTS.labels_option(w.dataset),
        code=digest("review.provenance", "review.steps"),
    shell:
        "python -m segstudy review labels --dataset {wildcards.dataset} --cases {input.cases:q}"
        " {params.labels:q} {params.records:q} --output {output:q} 2>&1 | tee {log:q}"


# All measurements under those labels that the study's own results are not measured under.
rule review_metrics:
    input:
        metrics=PATHS.metrics,
        corrected=runs(PATHS.corrected_measures()) if CORRECTED else [],
        cases=[PATHS.cases(dataset) for dataset in STUDY.tested_datasets],
    output:
        PATHS.other_metrics,
    log:
        PATHS.log("review", "metrics"),
    benchmark:
        PATHS.benchmark("review", "metrics")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(10),
    params:
        settings=slices.accounting_settings(STUDY, PATHS),
        reviewed=INPUTS.reviewed_state(STUDY.tested_datasets) if CORRECTED else "",
        code=digest("review.steps"),
    shell:
        "python -m segstudy review metrics --metrics {input.metrics:q} --corrected {input.corrected:q}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


# The statistics of the study, of these.
rule review_statistics:
    input:
        metrics=PATHS.other_metrics,
    output:
        **{name: PATHS.other_statistic(name) for name in ("summary", "tests", "ranking")},
    log:
        PATHS.log("review", "statistics"),
    benchmark:
        PATHS.benchmark("review", "statistics")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=runtime_min(60),
    params:
        folder=subpath(output.summary, parent=True),
        settings=slices.statistics_settings(STUDY).at_default(("subgroups",)).to_json(),
        defaults=slices.statistics_settings(STUDY).at_default(("subgroups",)).digest(),
        plugins=slices.metric_options(STUDY),
        raters=slices.rater_options(STUDY),
        code=code_of_measured(STUDY, "statistics.command"),
    shell:
        "python -m segstudy statistics --metrics {input.metrics:q} --settings {params.settings:q}"
        " {params.plugins:q} {params.raters:q} --output {params.folder:q} 2>&1 | tee {log:q}"


rule review_corrections:
    input:
        metrics=PATHS.metrics,
        other_metrics=PATHS.other_metrics,
        corrected=runs(PATHS.corrected_measures()) if CORRECTED else [],
        summary=[PATHS.statistic("summary"), PATHS.other_statistic("summary")],
        tests=[PATHS.statistic("tests"), PATHS.other_statistic("tests")],
        ranking=[PATHS.statistic("ranking"), PATHS.other_statistic("ranking")],
        cases=[PATHS.cases(dataset) for dataset in STUDY.tested_datasets],
        labels=[PATHS.provenance(dataset) for dataset in REVIEWED],
        records=[file for dataset in STUDY.tested_datasets for file in INPUTS.records(dataset)],
    output:
        directory(PATHS.accounting),
    log:
        PATHS.log("review", "corrections"),
    benchmark:
        PATHS.benchmark("review", "corrections")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=runtime_min(30),
    params:
        settings=slices.accounting_settings(STUDY, PATHS),
        before=slices.before_metrics_option(PATHS),
        reviewed=INPUTS.reviewed_state(STUDY.tested_datasets) if CORRECTED else "",
        code=digest("review.steps"),
    shell:
        "python -m segstudy review account --metrics {input.metrics:q} {input.other_metrics:q}"
        " --corrected {input.corrected:q} --summary {input.summary:q} --tests {input.tests:q}"
        " --ranking {input.ranking:q} --settings {params.settings:q} {params.before:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


# What readers think of predictions, once their codes are resolved.
rule review_ratings:
    input:
        ratings=STUDY.ratings.files if RATED else [],
        key=PATHS.rating_key,
        metrics=PATHS.metrics,
    output:
        directory(PATHS.ratings),
    log:
        PATHS.log("review", "ratings"),
    benchmark:
        PATHS.benchmark("review", "ratings")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(10),
    params:
        settings=lambda w: slices.rating_settings(STUDY),
        state=lambda w, input: state_of(input.ratings),
        code=digest("review.ratings", "review.steps"),
    shell:
        "python -m segstudy review ratings --ratings {input.ratings:q} --key {input.key:q}"
        " --metrics {input.metrics:q} --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"
