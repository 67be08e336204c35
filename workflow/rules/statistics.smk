# One job summarises and compares the models.


rule statistics:
    input:
        metrics=f"{RESULTS}/metrics/metrics.csv",
        trainings=grid_trainings(),
    output:
        **({"grid": f"{RESULTS}/statistics/grid.csv"} if STUDY.grids else {}),
        values=f"{RESULTS}/statistics/values.csv",
        summary=f"{RESULTS}/statistics/summary.csv",
        tests=f"{RESULTS}/statistics/tests.csv",
        ranking=f"{RESULTS}/statistics/ranking.csv",
        places=f"{RESULTS}/statistics/places.csv",
        false_positives=f"{RESULTS}/statistics/false_positives.csv",
        false_positive_tests=f"{RESULTS}/statistics/false_positive_tests.csv",
        report=f"{RESULTS}/statistics/report.md",
    log:
        f"{RESULTS}/logs/statistics/statistics.log",
    benchmark:
        f"{RESULTS}/benchmarks/statistics/statistics.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=runtime_min(60),
    params:
        folder=subpath(output.summary, parent=True),
        settings=STUDY.statistics.to_json(),
        defaults=STUDY.statistics.digest(),
        grid=grid_options(),
        code=digest("statistics.command"),
    shell:
        "python -m segstudy statistics --metrics {input.metrics:q} --settings {params.settings:q}"
        " {params.grid:q} --output {params.folder:q} 2>&1 | tee {log:q}"
