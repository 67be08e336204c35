# One job predicts the cases of a dataset that a fold's model is tested on.
from segstudy.infer import command_files


# All of them: the target `infer`; of some models, --config only=MODEL,MODEL.
rule infer:
    input:
        runs(PATHS.predictions(), models=ONLY),
    localrule: True


rule infer_predict:
    input:
        weights=lambda w: INPUTS.weights(w.model, w.fold, w.seed),
        splits=PATHS.splits,
        images=PATHS.image_list(),
        cases=ancient(PATHS.cases()),
        # Which components to keep is decided on training cases; a new label of theirs retrains anyway.
        training=lambda w: ancient(INPUTS.training_tables(w.model)),
    output:
        directory(PATHS.predictions()),
    log:
        PATHS.log("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}"),
    benchmark:
        PATHS.benchmark("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}")
    wildcard_constraints:
        model=targets.any_of(targets.followed_models(STUDY)),
    conda:
        conda_file
    threads: lambda w: STUDY.models[w.model].threads
    resources:
        mem_mb=memory_mb(lambda w: RESOURCES.prediction_mb(w.model, w.dataset)),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: RESOURCES.gpu(w.model),
        # Not a param: where a job runs is no reason to run it again.
        device=lambda w: RESOURCES.device(w.model),
        attempt=lambda w, attempt: attempt,
        finished=PATHS.finished,
        finished_gb=FINISHED_GB,
    params:
        labels=lambda w: INPUTS.labels_option(w.dataset),
        plugin=lambda w: slices.plugin_option(STUDY, w.model),
        training=lambda w: slices.training_cases(STUDY, PATHS, w.model),
        training_structures=lambda w: slices.structures_option(STUDY, STUDY.trained_on(w.model)),
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        ignore=lambda w: slices.ignore_option(STUDY, STUDY.trained_on(w.model)),
        settings=lambda w: STUDY.models[w.model].infer.to_json(),
        defaults=lambda w: STUDY.models[w.model].infer.digest(),
        code=lambda w: prediction_code(STUDY.models[w.model]),
    shell:
        "python -m segstudy infer --weights {input.weights:q} {params.plugin:q} --cases {input.cases:q}"
        " {params.labels:q} --dataset {wildcards.dataset} --splits {input.splits:q}"
        " --fold {wildcards.fold} --structures {params.structures:q}"
        " --training-cases {params.training:q}"
        " --training-structures {params.training_structures:q} {params.ignore:q}"
        " --settings {params.settings:q} --device {resources.device} --threads {threads}"
        " --attempt {resources.attempt}"
        " --finished {resources.finished:q} --finished-gb {resources.finished_gb} --output {output:q}"
        " 2>&1 | tee {log:q}"


# Of several models together, the networks of this fold alone.
use rule infer_predict as infer_ensemble with:
    input:
        weights=lambda w: INPUTS.member_weights(w.model, w.fold),
        splits=PATHS.splits,
        images=PATHS.image_list(),
        cases=ancient(PATHS.cases()),
        training=lambda w: ancient(INPUTS.training_tables(w.model)),
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "ensemble")),
    resources:
        mem_mb=memory_mb(lambda w: RESOURCES.ensemble_mb(w.model, w.dataset)),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: RESOURCES.gpu(w.model),
        device=lambda w: RESOURCES.device(w.model),
        attempt=lambda w, attempt: attempt,
        finished=PATHS.finished,
        finished_gb=FINISHED_GB,
    params:
        labels=lambda w: INPUTS.labels_option(w.dataset),
        plugin=lambda w: slices.member_plugins(STUDY, w.model),
        training=lambda w: slices.training_cases(STUDY, PATHS, w.model),
        training_structures=lambda w: slices.structures_option(STUDY, STUDY.trained_on(w.model)),
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        ignore=lambda w: slices.ignore_option(STUDY, STUDY.trained_on(w.model)),
        settings=lambda w: "["
        + ", ".join(one.to_json() for one in slices.member_settings(STUDY, w.model))
        + "]",
        defaults=lambda w: [one.digest() for one in slices.member_settings(STUDY, w.model)],
        code=lambda w: ensemble_code(STUDY, w.model),


rule infer_external:
    input:
        splits=PATHS.splits,
        images=PATHS.image_list(),
        cases=ancient(PATHS.cases()),
    output:
        directory(PATHS.predictions()),
    log:
        PATHS.log("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}"),
    benchmark:
        PATHS.benchmark("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}")
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "external")),
    conda:
        "../../envs/cpu.yaml"
    threads: lambda w: STUDY.models[w.model].threads
    resources:
        mem_mb=memory_mb(lambda w: STUDY.models[w.model].memory_mb),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: RESOURCES.gpu(w.model),
        # Not params: what is kept, and where, is no reason to run again.
        finished=PATHS.finished,
        finished_gb=FINISHED_GB,
    params:
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        settings=lambda w: slices.external_settings(STUDY, w.model).to_json(),
        defaults=lambda w: slices.external_settings(STUDY, w.model).digest(),
        named=lambda w: command_files.state(STUDY.models[w.model].command),
        code=digest("infer.external"),
    shell:
        "python -m segstudy infer --external {params.settings:q} --cases {input.cases:q}"
        " --dataset {wildcards.dataset} --splits {input.splits:q} --fold {wildcards.fold}"
        " --structures {params.structures:q} --threads {threads}"
        " --finished {resources.finished:q} --finished-gb {resources.finished_gb} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule infer_predictions:
    input:
        splits=PATHS.splits,
        cases=PATHS.cases(),
    output:
        directory(PATHS.predictions()),
    log:
        PATHS.log("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}"),
    benchmark:
        PATHS.benchmark("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}")
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "predictions")),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 1000 + 4 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 30 + 0.02 * RESOURCES.all_mb(w.dataset)),
    params:
        settings=lambda w: slices.prediction_settings(STUDY, w.model, w.dataset).to_json(),
        defaults=lambda w: slices.prediction_settings(STUDY, w.model, w.dataset).digest(),
        named=in_a_sentence(
            lambda w: slices.prediction_state(STUDY, w.model, w.dataset, w.fold, w.seed)
        ),
        code=digest("infer.predictions"),
    shell:
        "python -m segstudy infer --predictions {params.settings:q} --cases {input.cases:q}"
        " --dataset {wildcards.dataset} --splits {input.splits:q} --fold {wildcards.fold}"
        " --seed {wildcards.seed} --threads {threads} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule infer_plugin:
    input:
        trained=lambda w: f"{PATHS.training(w.model, w.fold, w.seed)}/trained.tar",
        splits=PATHS.splits,
        images=PATHS.image_list(),
        cases=ancient(PATHS.cases()),
    output:
        directory(PATHS.predictions()),
    log:
        PATHS.log("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}"),
    benchmark:
        PATHS.benchmark("infer", "{model}-fold-{fold}-seed-{seed}-{dataset}")
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "plugin")),
    conda:
        "../../envs/gpu.yaml"
    threads: lambda w: STUDY.models[w.model].threads
    resources:
        mem_mb=memory_mb(lambda w: STUDY.models[w.model].memory_mb),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: RESOURCES.gpu(w.model),
        # Not params: where a job runs, what is kept, and where, is no reason to run again.
        device=lambda w: RESOURCES.device(w.model),
        attempt=lambda w, attempt: attempt,
        finished=PATHS.finished,
        finished_gb=FINISHED_GB,
    params:
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        plugin=lambda w: slices.plugin_option(STUDY, w.model),
        code=lambda w: prediction_code(STUDY.models[w.model]),
    shell:
        "python -m segstudy infer --trained {input.trained:q} {params.plugin:q} --cases {input.cases:q}"
        " --dataset {wildcards.dataset} --splits {input.splits:q} --fold {wildcards.fold}"
        " --structures {params.structures:q} --device {resources.device} --threads {threads}"
        " --attempt {resources.attempt}"
        " --finished {resources.finished:q} --finished-gb {resources.finished_gb} --output {output:q}"
        " 2>&1 | tee {log:q}"
