# Figures, and the report that holds them.


rule publish_figures:
    input:
        metrics=f"{RESULTS}/metrics/metrics.csv",
        confusion=runs(
            f"{RESULTS}/metrics/{{model}}/fold-{{fold}}/seed-{{seed}}/confusion/{{dataset}}.csv"
        ),
        statistics=rules.statistics.output,
        splits=f"{RESULTS}/preprocess/splits.tsv",
        cases=[f"{RESULTS}/download/{dataset}/cases.tsv" for dataset in STUDY.datasets],
        images=lambda w: [
            file for dataset in STUDY.tested_datasets for file in dataset_images(dataset)
        ],
        estimates=[
            f"{RESULTS}/repair/{dataset}/estimate"
            for dataset in STUDY.datasets
            if is_repaired(dataset)
        ],
        labels=lambda w: [
            labels for dataset in STUDY.tested_datasets for labels in dataset_labels(dataset)
        ],
        plans=[
            f"{RESULTS}/preprocess/plans/{plan}/fold-{fold}.json"
            for plan in dict.fromkeys(model.plan for model in STUDY.models.values() if model.plan)
            for fold in STUDY.folds
        ],
        trainings=[
            f"{folder}/{file}"
            for folder in runs(f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}", TRAINED)
            for file in ("history.csv", "settings.json")
        ],
        drawn=runs(
            f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/samples.npz",
            models_of("synth"),
        ),
        predictions=runs(f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}"),
    output:
        [
            report(
                f"{RESULTS}/figures/{figure.name}.png",
                caption=f"../report/{figure.caption_file}",
                category=figure.category,
                labels=figure.labels,
            )
            for figure in catalogue.figures(STUDY)
        ],
        other=[
            f"{RESULTS}/figures/{file}"
            for file in catalogue.files(STUDY)
            if not file.endswith(".png")
        ],
    log:
        f"{RESULTS}/logs/publish/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish/figures.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=memory_mb(lambda w: 4000 + 4 * largest_mb()),
        runtime=runtime_min(60),
    params:
        results=subpath(output[0], ancestor=2),
        folder=subpath(output[0], parent=True),
        # A function, so that the placeholders of an external command are not taken for wildcards.
        settings=lambda w: STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish figures --settings {params.settings:q}"
        " --results {params.results:q} --output {params.folder:q} --threads {threads}"
        " 2>&1 | tee {log:q}"


rule publish_viewer:
    input:
        metrics=f"{RESULTS}/metrics/metrics.csv",
        values=rules.statistics.output.values,
        cases=[f"{RESULTS}/download/{dataset}/cases.tsv" for dataset in STUDY.datasets],
        images=lambda w: [
            file for dataset in STUDY.tested_datasets for file in dataset_images(dataset)
        ],
        labels=lambda w: [
            labels for dataset in STUDY.tested_datasets for labels in dataset_labels(dataset)
        ],
        predictions=runs(f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}"),
        page=[
            PACKAGE / f"segstudy/publish/{file}"
            for file in ("viewer.html", "niivue/niivue.umd.js")
        ],
    output:
        directory(f"{RESULTS}/viewer"),
    log:
        f"{RESULTS}/logs/publish/viewer.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish/viewer.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 4000 + 4 * largest_mb()),
        runtime=runtime_min(30),
    params:
        results=subpath(output[0], parent=True),
        settings=lambda w: STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish viewer --settings {params.settings:q}"
        " --results {params.results:q} --output {output:q} 2>&1 | tee {log:q}"


rule publish_report:
    input:
        figures=rules.publish_figures.output,
        viewer=rules.publish_viewer.output,
        tables=[rules.statistics.output, f"{RESULTS}/metrics/metrics.csv"],
        audits=[
            f"{RESULTS}/repair/{dataset}/audit"
            for dataset, settings in STUDY.datasets.items()
            if settings.audit_labels
        ],
        page=[PACKAGE / f"segstudy/publish/report.{suffix}" for suffix in ("html", "css", "js")],
        published=PACKAGE.parent / "resources/published.csv",
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
        mem_mb=memory_mb(4000),
        runtime=runtime_min(30),
    params:
        results=subpath(output[0], parent=True),
        folder=lambda w, input: str(Path(input.figures[0]).parent),
        # A function, so that the placeholders of an external command are not taken for wildcards.
        settings=lambda w: STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish report --settings {params.settings:q}"
        " --results {params.results:q} --figures {params.folder:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


# Made when it is asked for: `make publish STUDY=...`.
rule publish_package:
    input:
        report=rules.publish_report.output,
        figures=rules.publish_figures.output,
        viewer=rules.publish_viewer.output,
    output:
        f"{RESULTS}/{STUDY.name}.zip",
    log:
        f"{RESULTS}/logs/publish/package.log",
    benchmark:
        f"{RESULTS}/benchmarks/publish/package.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(6000),
        runtime=runtime_min(60),
    params:
        results=subpath(output[0], parent=True),
        folder=lambda w, input: str(Path(input.figures[0]).parent),
        # An empty value (`package=`) is none.
        options=config["package"] or "",
        settings=lambda w: STUDY.to_json(),
        defaults=STUDY.digest(),
        code=digest("publish.command"),
    shell:
        "python -m segstudy publish package --settings {params.settings:q}"
        " --results {params.results:q} --figures {params.folder:q} --output {output:q}"
        " {params.options} 2>&1 | tee {log:q}"
