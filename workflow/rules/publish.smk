# Figures, and the report that holds them.
from segstudy.publish import catalogue
from segstudy.publish.checklist_items import CHECKLISTS


rule publish:
    input:
        PATHS.report,
        lambda w: rules.publish_figures.output,
        PATHS.rating_page if STUDY.ratings else [],
    localrule: True


rule publish_figures:
    input:
        metrics=PATHS.metrics,
        confusion=runs(PATHS.confusion()),
        statistics=rules.statistics.output,
        quality=PATHS.quality if STUDY.statistics.quality else [],
        splits=PATHS.splits,
        cases=[PATHS.cases(dataset) for dataset in STUDY.datasets],
        images=[PATHS.image_list(dataset) for dataset in STUDY.tested_datasets],
        estimates=[
            PATHS.estimate(dataset) for dataset in STUDY.datasets if INPUTS.is_repaired(dataset)
        ],
        labels=[PATHS.label_list(dataset) for dataset in STUDY.tested_datasets],
        plans=targets.plans(STUDY, PATHS),
        ratings=PATHS.ratings if RATED else [],
        corrections=PATHS.accounting if CORRECTED else [],
        trainings=[
            f"{folder}/{file}"
            for folder in runs(PATHS.training(), models=targets.followed_models(STUDY))
            for file in ("history.csv", "settings.json")
        ],
        drawn=runs(f"{PATHS.training()}/samples.npz", models=targets.models_of(STUDY, "synth")),
        predictions=runs(PATHS.predictions()),
    output:
        [
            report(
                f"{PATHS.figures}/{figure.name}.png",
                # Written with the figure; a relative path would be one beside this file.
                caption=os.path.abspath(f"{PATHS.figures}/{figure.caption}"),
                category=figure.category,
                labels=figure.labels,
            )
            for figure in catalogue.figures(STUDY.compared())
        ],
        other=[
            f"{PATHS.figures}/{file}"
            for file in catalogue.files(STUDY.compared())
            if not file.endswith(".png")
        ],
    log:
        PATHS.log("publish", "figures"),
    benchmark:
        PATHS.benchmark("publish", "figures")
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=memory_mb(lambda w: 4000 + 4 * RESOURCES.largest_mb()),
        runtime=runtime_min(60),
    params:
        results=subpath(output[0], ancestor=2),
        folder=subpath(output[0], parent=True),
        # A function, so that the placeholders of an external command are not taken for wildcards.
        settings=lambda w: slices.figure_settings(STUDY).to_json(),
        defaults=slices.figure_settings(STUDY).digest(),
        code=with_plugins(code_of_measured(STUDY, "publish.command"), STUDY.publish.figures),
    shell:
        "python -m segstudy publish figures --settings {params.settings:q}"
        " --results {params.results:q} --output {params.folder:q} --threads {threads}"
        " 2>&1 | tee {log:q}"


rule publish_viewer:
    input:
        metrics=PATHS.metrics,
        # Not `ancient`, though comparisons change nothing in them: Snakemake (9.27) never looks at a job that such a
        # file alone leads to from one that runs, and so would leave an old viewer.
        values=rules.statistics.output.values,
        cases=[PATHS.cases(dataset) for dataset in STUDY.datasets],
        images=[PATHS.image_list(dataset) for dataset in STUDY.tested_datasets],
        labels=[PATHS.label_list(dataset) for dataset in STUDY.tested_datasets],
        predictions=runs(PATHS.predictions()),
        page=[
            shipped.PACKAGE / f"publish/{file}" for file in ("viewer.html", "niivue/niivue.umd.js")
        ],
    output:
        directory(PATHS.viewer),
    log:
        PATHS.log("publish", "viewer"),
    benchmark:
        PATHS.benchmark("publish", "viewer")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 4000 + 4 * RESOURCES.largest_mb()),
        runtime=runtime_min(30),
    params:
        results=subpath(output[0], parent=True),
        settings=lambda w: slices.viewer_settings(STUDY).to_json(),
        defaults=slices.viewer_settings(STUDY).digest(),
        code=code_of_measured(STUDY, "publish.command"),
    shell:
        "python -m segstudy publish viewer --settings {params.settings:q}"
        " --results {params.results:q} --output {output:q} 2>&1 | tee {log:q}"


# The page on which readers rate predictions without knowing whose they are; the key stays apart from it.
rule publish_rating:
    input:
        metrics=PATHS.metrics,
        cases=[PATHS.cases(dataset) for dataset in STUDY.datasets],
        images=[PATHS.image_list(dataset) for dataset in STUDY.tested_datasets],
        labels=[PATHS.label_list(dataset) for dataset in STUDY.tested_datasets],
        predictions=runs(PATHS.predictions(), models=STUDY.compared().models),
        page=[
            shipped.PACKAGE / f"publish/{file}"
            for file in ("rating.html", "viewer.html", "niivue/niivue.umd.js")
        ],
    output:
        page=directory(PATHS.rating_page),
        key=PATHS.rating_key,
    log:
        PATHS.log("publish", "rating"),
    benchmark:
        PATHS.benchmark("publish", "rating")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 4000 + 4 * RESOURCES.largest_mb()),
        runtime=runtime_min(60),
    params:
        results=subpath(output.page, parent=True),
        settings=lambda w: slices.rating_page_settings(STUDY).to_json(),
        defaults=slices.rating_page_settings(STUDY).digest(),
        code=code_of_measured(STUDY, "publish.command"),
    shell:
        "python -m segstudy publish rating --settings {params.settings:q}"
        " --results {params.results:q} --output {output.page:q} --key {output.key:q}"
        " 2>&1 | tee {log:q}"


rule publish_report:
    input:
        figures=rules.publish_figures.output,
        viewer=rules.publish_viewer.output,
        tables=[rules.statistics.output, PATHS.metrics],
        quality=PATHS.quality if STUDY.statistics.quality else [],
        audits=[
            PATHS.label_audit(dataset)
            for dataset, settings in STUDY.datasets.items()
            if settings.audit_labels
        ],
        page=[
            shipped.PACKAGE / f"publish/{file}"
            for file in ("report.html", "report.css", "report.js", "methods.j2")
        ],
        published=shipped.RESOURCES / "published.csv",
        participants=list(INPUTS.participants(STUDY.datasets).values()),
        corrections=PATHS.accounting if CORRECTED else [],
        ratings=PATHS.ratings if RATED else [],
        label_chains=[PATHS.provenance(dataset) for dataset in REVIEWED],
        checklists=[shipped.RESOURCES / f"checklists/{one.name}.tsv" for one in CHECKLISTS],
    output:
        report=PATHS.report,
        reporting=directory(PATHS.reporting),
    log:
        PATHS.log("publish", "report"),
    benchmark:
        PATHS.benchmark("publish", "report")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=runtime_min(30),
    params:
        results=subpath(output.report, parent=True),
        folder=lambda w, input: str(Path(input.figures[0]).parent),
        # A function, so that the placeholders of an external command are not taken for wildcards.
        settings=lambda w: STUDY.to_json(),
        defaults=STUDY.digest(),
        # The report lists every plug-in with the digest of its code.
        code=with_plugins(code_of_measured(STUDY, "publish.command"), STUDY.plugins().values()),
    shell:
        "python -m segstudy publish report --settings {params.settings:q}"
        " --results {params.results:q} --figures {params.folder:q} --output {output.report:q}"
        " --reporting {output.reporting:q} 2>&1 | tee {log:q}"


# Made when it is asked for: `make publish STUDY=...`.
rule publish_package:
    input:
        report=rules.publish_report.output.report,
        figures=rules.publish_figures.output,
        viewer=rules.publish_viewer.output,
        # Settings are in `params`; an edit of a remark changes the zip alone.
        study=str(STUDY_FILE),
    output:
        PATHS.package(STUDY.name),
    log:
        PATHS.log("publish", "package"),
    benchmark:
        PATHS.benchmark("publish", "package")
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
        code=with_plugins(code_of_measured(STUDY, "publish.command"), STUDY.plugins().values()),
    shell:
        "python -m segstudy publish package --settings {params.settings:q}"
        " --results {params.results:q} --figures {params.folder:q} --output {output:q}"
        " --study-file {input.study:q} {params.options} 2>&1 | tee {log:q}"
