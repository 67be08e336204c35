# Folds, then what each fold's training cases say about grid and intensities, then arrays by shard.

FOLDS = str(folds.folds_file(STUDY_FILE, shipped.STUDIES, PATHS.root))


# Once for a study, by its first run; never made anew, since the user may have edited it.
rule preprocess_folds:
    output:
        update(FOLDS),
    log:
        PATHS.log("preprocess", "folds"),
    benchmark:
        PATHS.benchmark("preprocess", "folds")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        splits=lambda w: PATHS.splits,
        folds=STUDY.splits.folds,
        group_by=STUDY.splits.group_by,
    shell:
        "python -m segstudy preprocess folds --splits {params.splits:q} --folds {params.folds}"
        " --group-by {params.group_by} --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_split:
    input:
        cases=[PATHS.cases(dataset) for dataset in STUDY.datasets],
        folds=FOLDS,
    output:
        PATHS.splits,
    log:
        PATHS.log("preprocess", "split"),
    benchmark:
        PATHS.benchmark("preprocess", "split")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        cases=[f"{dataset}={PATHS.cases(dataset)}" for dataset in STUDY.datasets],
        settings=slices.split_settings(STUDY).to_json(),
        defaults=slices.split_settings(STUDY).digest(),
        code=digest("preprocess.split"),
    shell:
        "python -m segstudy preprocess split --cases {params.cases:q}"
        " --settings {params.settings:q} --folds {input.folds:q} --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_fingerprint:
    input:
        images=lambda w: INPUTS.shard_images(w.dataset, w.shard),
        labels=lambda w: INPUTS.shard_labels(w.dataset, w.shard),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.fingerprint(),
    log:
        PATHS.log("preprocess", "{dataset}-fingerprint-{shard}"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-fingerprint-{shard}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 500 + 5 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 10 + 0.02 * RESOURCES.shard_mb(w.dataset, w.shard)),
    params:
        files=lambda w: state_of(
            INPUTS.shard_images(w.dataset, w.shard), INPUTS.shard_labels(w.dataset, w.shard)
        ),
        select=lambda w: INPUTS.selected(w.dataset, w.shard),
        labels=lambda w: INPUTS.labels_option(w.dataset),
        settings=lambda w: STUDY.datasets[w.dataset].cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].cohort().digest(),
        code=digest("preprocess.fingerprint"),
    shell:
        "python -m segstudy preprocess fingerprint --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


checkpoint preprocess_plan:
    input:
        splits=PATHS.splits,
        fingerprints=lambda w: [
            PATHS.fingerprint_list(dataset) for dataset in STUDY.fitted_on(w.plan)
        ],
    output:
        PATHS.plan(),
    log:
        PATHS.log("preprocess", "plan-{plan}-fold-{fold}"),
    benchmark:
        PATHS.benchmark("preprocess", "plan-{plan}-fold-{fold}")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(20),
    params:
        settings=lambda w: slices.plan_settings(STUDY, w.plan).to_json(),
        defaults=lambda w: slices.plan_settings(STUDY, w.plan).digest(),
        code=digest("preprocess.plan"),
    shell:
        "python -m segstudy preprocess plan --splits {input.splits:q}"
        " --fingerprints {input.fingerprints:q} --fold {wildcards.fold}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_resample:
    input:
        images=lambda w: INPUTS.shard_images(w.dataset, w.shard),
        labels=lambda w: INPUTS.shard_labels(w.dataset, w.shard),
        cases=ancient(PATHS.cases()),
    output:
        directory(f"{PATHS.arrays()}/{{shard}}"),
    log:
        PATHS.log("preprocess", "{dataset}-{plan}-{grid}-{shard}"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-{plan}-{grid}-{shard}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(
            lambda w: 500
            + 4 * RESOURCES.image_mb(w.dataset)
            + 4 * RESOURCES.image_mb(w.dataset, parse_grid(w.grid))
        ),
        runtime=runtime_min(lambda w: 10 + 0.04 * RESOURCES.shard_mb(w.dataset, w.shard)),
    params:
        files=lambda w: state_of(
            INPUTS.shard_images(w.dataset, w.shard), INPUTS.shard_labels(w.dataset, w.shard)
        ),
        select=lambda w: INPUTS.selected(w.dataset, w.shard),
        labels=lambda w: INPUTS.labels_option(w.dataset),
        settings=lambda w: slices.resample_settings(STUDY, w.dataset, w.plan).to_json(),
        defaults=lambda w: slices.resample_settings(STUDY, w.dataset, w.plan).digest(),
        code=digest("preprocess.resample"),
    shell:
        "python -m segstudy preprocess resample --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --grid {wildcards.grid} --settings {params.settings:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule preprocess_tissues:
    input:
        labels=lambda w: INPUTS.shard_labels(w.dataset, w.shard),
        cases=ancient(PATHS.cases()),
    output:
        directory(f"{PATHS.tissues()}/{{shard}}"),
    log:
        PATHS.log("preprocess", "{dataset}-tissues-{plan}-{grid}-{shard}"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-tissues-{plan}-{grid}-{shard}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(
            lambda w: 500
            + 4 * RESOURCES.image_mb(w.dataset)
            + 4 * RESOURCES.image_mb(w.dataset, parse_grid(w.grid))
        ),
        runtime=runtime_min(lambda w: 10 + 0.04 * RESOURCES.shard_mb(w.dataset, w.shard)),
    params:
        files=lambda w: state_of(INPUTS.shard_labels(w.dataset, w.shard)),
        select=lambda w: INPUTS.selected(w.dataset, w.shard),
        labels=lambda w: INPUTS.labels_option(w.dataset),
        settings=lambda w: slices.tissue_settings(STUDY, w.dataset, w.plan).to_json(),
        defaults=lambda w: slices.tissue_settings(STUDY, w.dataset, w.plan).digest(),
        code=digest("preprocess.tissues"),
    shell:
        "python -m segstudy preprocess tissues --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --grid {wildcards.grid} --settings {params.settings:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


# Lists. A command line holds some 2,000 paths, and trainings, predictions and measurements would each
# depend on every one, which takes Snakemake long to plan.


rule preprocess_list_fingerprints:
    input:
        listed=lambda w: INPUTS.in_shards(w.dataset, PATHS.fingerprints(w.dataset), ".json"),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.fingerprint_list(),
    log:
        PATHS.log("preprocess", "{dataset}-list-fingerprints"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-list-fingerprints")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        what=lambda w: INPUTS.shards_option(w.dataset, PATHS.fingerprints(w.dataset), ".json"),
        code=digest("cases"),
    shell:
        "python -m segstudy preprocess list --cases {input.cases:q}"
        " {params.what:q} --output {output:q} 2>&1 | tee {log:q}"


use rule preprocess_list_fingerprints as preprocess_list_arrays with:
    input:
        listed=lambda w: INPUTS.in_shards(w.dataset, PATHS.arrays(w.dataset, w.plan, w.grid)),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.array_list(),
    log:
        PATHS.log("preprocess", "{dataset}-{plan}-{grid}-list"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-{plan}-{grid}-list")
    params:
        what=lambda w: INPUTS.shards_option(w.dataset, PATHS.arrays(w.dataset, w.plan, w.grid)),
        code=digest("cases"),


use rule preprocess_list_fingerprints as preprocess_list_tissues with:
    input:
        listed=lambda w: INPUTS.in_shards(w.dataset, PATHS.tissues(w.dataset, w.plan, w.grid)),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.tissue_list(),
    log:
        PATHS.log("preprocess", "{dataset}-tissues-{plan}-{grid}-list"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-tissues-{plan}-{grid}-list")
    params:
        what=lambda w: INPUTS.shards_option(w.dataset, PATHS.tissues(w.dataset, w.plan, w.grid)),
        code=digest("cases"),


use rule preprocess_list_fingerprints as preprocess_list_images with:
    input:
        listed=lambda w: INPUTS.images(w.dataset),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.image_list(),
    log:
        PATHS.log("preprocess", "{dataset}-list-images"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-list-images")
    params:
        files=lambda w: state_of(INPUTS.images(w.dataset)),
        what=["--files", "images"],
        code=digest("cases"),


use rule preprocess_list_fingerprints as preprocess_list_labels with:
    input:
        listed=lambda w: INPUTS.labels(w.dataset),
        cases=ancient(PATHS.cases()),
    output:
        PATHS.label_list(),
    log:
        PATHS.log("preprocess", "{dataset}-list-labels"),
    benchmark:
        PATHS.benchmark("preprocess", "{dataset}-list-labels")
    params:
        files=lambda w: state_of(INPUTS.labels(w.dataset)),
        what=lambda w: INPUTS.files_option(w.dataset),
        code=digest("cases"),


# All that the models are trained on.
rule preprocess:
    input:
        lambda w: [
            file
            for model in ONLY
            for fold in STUDY.folds
            for file in [
                *INPUTS.training_arrays(model, str(fold)),
                *INPUTS.training_plan(model, str(fold)),
            ]
        ],
        PATHS.splits,
    localrule: True


# `use rule` does not pass this on.
localrules:
    preprocess_list_arrays,
    preprocess_list_tissues,
    preprocess_list_images,
    preprocess_list_labels,
