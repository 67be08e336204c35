# One job finds how the labels of a dataset were moved; one job a shard puts them back. Where the
# study asks for it, one job looks for labels that do not fit the rest.


rule repair:
    input:
        lambda w: [
            labels
            for dataset in STUDY.datasets
            if INPUTS.is_repaired(dataset)
            for labels in INPUTS.labels(dataset)
        ],
        [PATHS.label_audit(name) for name, own in STUDY.datasets.items() if own.audit_labels],
    localrule: True


rule repair_estimate:
    input:
        files=lambda w: INPUTS.estimated_from(w.dataset),
        cases=ancient(PATHS.cases()),
    output:
        directory(PATHS.estimate()),
    log:
        PATHS.log("repair", "{dataset}-estimate"),
    benchmark:
        PATHS.benchmark("repair", "{dataset}-estimate")
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=memory_mb(lambda w: 3000 + 5 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(120),
    params:
        files=lambda w: state_of(INPUTS.estimated_from(w.dataset)),
        settings=lambda w: STUDY.datasets[w.dataset].repaired_cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].repaired_cohort().digest(),
        code=digest("repair.estimate"),
    shell:
        "python -m segstudy repair estimate --cases {input.cases:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule repair_apply:
    input:
        files=lambda w: INPUTS.shard_files(w.dataset, w.shard),
        # Which cases a shard holds is in its name; that others came or went does not matter here.
        cases=ancient(PATHS.cases()),
        estimate=PATHS.estimate(),
    output:
        directory(PATHS.repaired_shard()),
    log:
        PATHS.log("repair", "{dataset}-{shard}"),
    benchmark:
        PATHS.benchmark("repair", "{dataset}-{shard}")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 500 + 5 * RESOURCES.image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 10 + 0.02 * RESOURCES.shard_mb(w.dataset, w.shard)),
    params:
        files=lambda w: state_of(INPUTS.shard_files(w.dataset, w.shard)),
        select=lambda w: INPUTS.selected(w.dataset, w.shard),
        settings=lambda w: STUDY.datasets[w.dataset].repaired_cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].repaired_cohort().digest(),
        code=digest("repair.apply"),
    shell:
        "python -m segstudy repair apply --cases {input.cases:q} --select {params.select:q}"
        " --transform {input.estimate:q}/transform.json --settings {params.settings:q}"
        " --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule repair_audit:
    input:
        cases=PATHS.cases(),
        images=PATHS.image_list(),
        labels=PATHS.label_list(),
    output:
        directory(PATHS.label_audit()),
    log:
        PATHS.log("repair", "{dataset}-audit"),
    benchmark:
        PATHS.benchmark("repair", "{dataset}-audit")
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(16000),
        runtime=runtime_min(240),
    params:
        labels=lambda w: INPUTS.labels_option(w.dataset),
        settings=lambda w: STUDY.datasets[w.dataset].cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].cohort().digest(),
        code=digest("repair.audit"),
    shell:
        "python -m segstudy repair audit --cases {input.cases:q} {params.labels:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"
