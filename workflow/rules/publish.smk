# Figures, and the report that holds them.


rule publish_figures:
    input:
        metrics=f"{RESULTS}/metrics/metrics.csv",
        statistics=rules.statistics.output,
        splits=f"{RESULTS}/preprocess/splits.tsv",
        cases=[f"{RESULTS}/download/{dataset}/cases.tsv" for dataset in STUDY.datasets],
        estimates=[
            f"{RESULTS}/repair/{dataset}/estimate"
            for dataset in STUDY.datasets
            if is_repaired(dataset)
        ],
        labels=lambda w: [
            labels for dataset in STUDY.datasets for labels in dataset_labels(dataset)
        ],
        histories=runs(f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/history.csv"),
        predictions=runs(f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}"),
    output:
        [
            report(
                f"{RESULTS}/figures/{figure.name}.{suffix}",
                caption=f"../report/{figure.caption_file}",
                category=figure.category,
                labels={**figure.labels, "format": suffix},
            )
            for figure in catalogue.figures(STUDY)
            for suffix in ("png", "svg")
        ],
    log:
        f"{RESULTS}/logs/publish/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish/figures.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=60,
    params:
        results=subpath(output[0], ancestor=2),
        folder=subpath(output[0], parent=True),
        settings=STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish figures --settings {params.settings:q}"
        " --results {params.results:q} --output {params.folder:q} 2>&1 | tee {log:q}"


rule publish_report:
    input:
        figures=rules.publish_figures.output,
        tables=[rules.statistics.output, f"{RESULTS}/metrics/metrics.csv"],
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/publish/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish/report.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        results=subpath(output[0], parent=True),
        folder=lambda w, input: str(Path(input.figures[0]).parent),
        settings=STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish report --settings {params.settings:q}"
        " --results {params.results:q} --figures {params.folder:q} --output {output:q}"
        " 2>&1 | tee {log:q}"
