# One job predicts the cases of a dataset that a fold's model is tested on.


rule infer:
    input:
        weights=lambda w: (
            f"{RESULTS}/train/{w.model}/fold-{w.fold}/seed-{w.seed}/"
            + ("best.pt" if STUDY.models[w.model].infer.weights == "best" else "weights.pt")
        ),
        splits=f"{RESULTS}/preprocess/splits.tsv",
        images=lambda w: dataset_images(w.dataset),
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
        # Which components to keep is decided on training cases; a new label of theirs retrains anyway.
        training=lambda w: ancient(training_tables(w.model)),
    output:
        directory(f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}"),
    log:
        f"{RESULTS}/logs/infer/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/infer/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.tsv"
    wildcard_constraints:
        model=any_of(TRAINED),
    conda:
        environment
    threads: lambda w: STUDY.models[w.model].threads
    resources:
        mem_mb=memory_mb(prediction_mb),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: needs_gpu(w.model),
        # Not a param: where a job runs is no reason to run it again.
        device=lambda w: STUDY.models[w.model].device,
        finished=FINISHED,
        finished_gb=FINISHED_GB,
    params:
        files=lambda w: state_of(dataset_images(w.dataset)),
        labels=lambda w: labels_option(w.dataset),
        training=lambda w, input: [
            f"{dataset}={path}"
            + (f":{RESULTS}/repair/{dataset}/labels" if is_repaired(dataset) else "")
            for dataset, path in zip(STUDY.trained_on(w.model), input.training)
        ],
        training_structures=lambda w: json.dumps(
            {dataset: STUDY.datasets[dataset].structures for dataset in STUDY.trained_on(w.model)}
        ),
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        ignore=lambda w: ignore_option(STUDY.trained_on(w.model)),
        settings=lambda w: STUDY.models[w.model].infer.to_json(),
        defaults=lambda w: STUDY.models[w.model].infer.digest(),
        code=lambda w: prediction_code(w.model),
    shell:
        "python -m segstudy infer --weights {input.weights:q} --cases {input.cases:q}"
        " {params.labels:q} --dataset {wildcards.dataset} --splits {input.splits:q}"
        " --fold {wildcards.fold} --structures {params.structures:q}"
        " --training-cases {params.training:q}"
        " --training-structures {params.training_structures:q} {params.ignore:q}"
        " --settings {params.settings:q} --device {resources.device} --threads {threads}"
        " --finished {resources.finished:q} --finished-gb {resources.finished_gb} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule infer_external:
    input:
        splits=f"{RESULTS}/preprocess/splits.tsv",
        images=lambda w: dataset_images(w.dataset),
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        directory(f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}"),
    log:
        f"{RESULTS}/logs/infer/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/infer/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.tsv"
    wildcard_constraints:
        model=any_of(models_of("external")),
    conda:
        "../../envs/cpu.yaml"
    threads: lambda w: STUDY.models[w.model].threads
    resources:
        mem_mb=memory_mb(lambda w: STUDY.models[w.model].memory_mb),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: needs_gpu(w.model),
        # Not params: what is kept, and where, is no reason to run again.
        finished=FINISHED,
        finished_gb=FINISHED_GB,
    params:
        files=lambda w: state_of(dataset_images(w.dataset)),
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        settings=lambda w: external_settings(w.model).to_json(),
        defaults=lambda w: external_settings(w.model).digest(),
        named=lambda w: named.state(STUDY.models[w.model].command),
        code=digest("infer.external"),
    shell:
        "python -m segstudy infer --external {params.settings:q} --cases {input.cases:q}"
        " --dataset {wildcards.dataset} --splits {input.splits:q} --fold {wildcards.fold}"
        " --structures {params.structures:q} --threads {threads}"
        " --finished {resources.finished:q} --finished-gb {resources.finished_gb} --output {output:q}"
        " 2>&1 | tee {log:q}"
