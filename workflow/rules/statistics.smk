# One job summarises and compares the models.


rule statistics:
    input:
        metrics=PATHS.metrics,
        trainings=targets.grid_trainings(STUDY, PATHS),
        participants=(
            list(INPUTS.participants(STUDY.tested_datasets).values())
            if STUDY.statistics.subgroups
            else []
        ),
    output:
        **({"grid": PATHS.statistic("grid")} if STUDY.grids else {}),
        **(
            {name: PATHS.statistic(name) for name in ("subgroups", "subgroup_tests")}
            if STUDY.statistics.subgroups
            else {}
        ),
        values=PATHS.statistic("values"),
        summary=PATHS.statistic("summary"),
        tests=PATHS.statistic("tests"),
        verdicts=PATHS.statistic("verdicts"),
        ranking=PATHS.statistic("ranking"),
        places=PATHS.statistic("places"),
        false_positives=PATHS.statistic("false_positives"),
        false_positive_tests=PATHS.statistic("false_positive_tests"),
        report=f"{PATHS.statistics}/report.md",
    log:
        PATHS.log("statistics", "statistics"),
    benchmark:
        PATHS.benchmark("statistics", "statistics")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=runtime_min(60),
    params:
        folder=subpath(output.summary, parent=True),
        settings=slices.statistics_settings(STUDY).to_json(),
        defaults=slices.statistics_settings(STUDY).digest(),
        grid=slices.grid_options(STUDY, PATHS),
        participants=INPUTS.participants_option(),
        plugins=slices.metric_options(STUDY),
        raters=slices.rater_options(STUDY),
        code=code_of_measured(STUDY, "statistics.command"),
    shell:
        "python -m segstudy statistics --metrics {input.metrics:q} --settings {params.settings:q}"
        " {params.grid:q} {params.participants:q} {params.plugins:q} {params.raters:q} --output {params.folder:q} 2>&1 | tee {log:q}"


# Where the study asks for it: how good each held-out prediction looks, and what that is worth.
rule statistics_quality:
    input:
        metrics=PATHS.metrics,
        predictions=runs(PATHS.predictions(), models=STUDY.compared().models),
        splits=PATHS.splits,
        labels=[PATHS.label_list(dataset) for dataset in STUDY.tested_datasets],
        images=[PATHS.image_list(dataset) for dataset in STUDY.tested_datasets],
        cases=ancient([PATHS.cases(dataset) for dataset in STUDY.tested_datasets]),
    output:
        directory(PATHS.quality),
    log:
        PATHS.log("statistics", "quality"),
    benchmark:
        PATHS.benchmark("statistics", "quality")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(
            lambda w: 2000 + 8 * max(RESOURCES.image_mb(name) for name in STUDY.tested_datasets)
        ),
        runtime=runtime_min(
            lambda w: 60
            + 0.1
            * len(STUDY.models)
            * sum(RESOURCES.all_mb(name) for name in STUDY.tested_datasets)
        ),
    params:
        # Not expanded: it has wildcards of its own.
        settings=lambda w: slices.quality_settings(STUDY, PATHS).to_json(),
        code=digest("statistics.quality"),
    shell:
        "python -m segstudy statistics --metrics {input.metrics:q} --quality {params.settings:q}"
        " --output {output:q} 2>&1 | tee {log:q}"
