# One job measures a folder of predictions; all tables are then put into one.


# All of it: the target `metrics`; of some models, --config only=MODEL,MODEL.
rule metrics:
    input:
        PATHS.metrics if ONLY == list(STUDY.models) else runs(PATHS.measures(), models=ONLY),
    localrule: True


rule metrics_measure:
    input:
        prediction=PATHS.predictions(),
        labels=PATHS.label_list(),
        splits=PATHS.splits,
        cases=ancient(PATHS.cases()),
    output:
        measures=PATHS.measures(),
        confusion=PATHS.confusion(),
        instances=PATHS.instances() if STUDY.metrics.lesions else [],
        corrected=PATHS.corrected_measures() if CORRECTED else [],
    log:
        PATHS.log("metrics", "{model}-fold-{fold}-seed-{seed}-{dataset}"),
    benchmark:
        PATHS.benchmark("metrics", "{model}-fold-{fold}-seed-{seed}-{dataset}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 1000 + 4 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 30 + 0.04 * RESOURCES.all_mb(w.dataset)),
    params:
        labels=in_a_sentence(
            lambda w: [*INPUTS.labels_option(w.dataset), *INPUTS.headline_option(w.dataset)]
        ),
        settings=lambda w: slices.measure_settings(STUDY, w.dataset).to_json(),
        defaults=lambda w: slices.measure_settings(STUDY, w.dataset).digest(),
        columns=lambda w: slices.measured_columns(STUDY, w.model, w.fold, w.seed, w.dataset),
        instances=lambda w, output: (["--instances", output.instances] if output.instances else []),
        drawn=lambda w: ["--drawn-only"] if w.model in STUDY.raters else [],
        reviewed=lambda w: INPUTS.reviewed_state([w.dataset]),
        corrected=lambda w, output: (
            ["--corrections", output.corrected, *slices.before_option(PATHS, w)]
            if output.corrected
            else []
        ),
        code=measuring_code(STUDY),
    shell:
        "python -m segstudy metrics --cases {input.cases:q} {params.labels:q}"
        " --prediction {input.prediction:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --dataset {wildcards.dataset} --settings {params.settings:q}"
        " --columns {params.columns:q} --threads {threads} --output {output.measures:q}"
        " --confusion {output.confusion:q} {params.instances:q} {params.corrected:q} {params.drawn:q} 2>&1 | tee {log:q}"


rule metrics_collect:
    input:
        measures=in_a_sentence(lambda w: options.check_all(ONLY, STUDY) or runs(PATHS.measures())),
        instances=runs(PATHS.instances()) if STUDY.metrics.lesions else [],
    output:
        measures=PATHS.metrics,
        instances=PATHS.all_instances if STUDY.metrics.lesions else [],
    log:
        PATHS.log("metrics", "collect"),
    benchmark:
        PATHS.benchmark("metrics", "collect")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(10),
    params:
        instances=lambda w, input, output: (
            ["--collect-instances", *input.instances, "--instances", output.instances]
            if input.instances
            else []
        ),
        code=digest("metrics.table"),
    shell:
        "python -m segstudy metrics --collect {input.measures:q} --output {output.measures:q}"
        " {params.instances:q} 2>&1 | tee {log:q}"
