# One job finds how the labels of a dataset were moved; one job a shard puts them back. Where the
# study asks for it, one job looks for labels that do not fit the rest.


rule repair_estimate:
    input:
        files=estimate_files,
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        directory(f"{RESULTS}/repair/{{dataset}}/estimate"),
    log:
        f"{RESULTS}/logs/repair/{{dataset}}-estimate.log",
    benchmark:
        f"{RESULTS}/benchmarks/repair/{{dataset}}-estimate.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        mem_mb=memory_mb(lambda w: 3000 + 5 * image_mb(w.dataset)),
        runtime=runtime_min(120),
    params:
        files=lambda w: state_of(estimate_files(w)),
        settings=lambda w: STUDY.datasets[w.dataset].repaired_cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].repaired_cohort().digest(),
        code=digest("repair.estimate"),
    shell:
        "python -m segstudy repair estimate --cases {input.cases:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule repair_apply:
    input:
        files=lambda w: shard_files(w, "files"),
        # Which cases a shard holds is in its name; that others came or went does not matter here.
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
        estimate=f"{RESULTS}/repair/{{dataset}}/estimate",
    output:
        directory(f"{RESULTS}/repair/{{dataset}}/labels/{{shard}}"),
    log:
        f"{RESULTS}/logs/repair/{{dataset}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/repair/{{dataset}}-{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 500 + 5 * image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 10 + 0.02 * shard_mb(w)),
    params:
        files=lambda w: state_of(shard_files(w, "files")),
        select=selected,
        settings=lambda w: STUDY.datasets[w.dataset].repaired_cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].repaired_cohort().digest(),
        code=digest("repair.apply"),
    shell:
        "python -m segstudy repair apply --cases {input.cases:q} --select {params.select:q}"
        " --transform {input.estimate:q}/transform.json --settings {params.settings:q}"
        " --threads {threads} --output {output:q} 2>&1 | tee {log:q}"


rule repair_audit:
    input:
        cases=f"{RESULTS}/download/{{dataset}}/cases.tsv",
        images=lambda w: dataset_images(w.dataset),
        labels=lambda w: dataset_labels(w.dataset),
    output:
        directory(f"{RESULTS}/repair/{{dataset}}/audit"),
    log:
        f"{RESULTS}/logs/repair/{{dataset}}-audit.log",
    benchmark:
        f"{RESULTS}/benchmarks/repair/{{dataset}}-audit.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(16000),
        runtime=runtime_min(240),
    params:
        files=lambda w: state_of(dataset_images(w.dataset), dataset_labels(w.dataset)),
        labels=lambda w: labels_option(w.dataset),
        settings=lambda w: STUDY.datasets[w.dataset].cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].cohort().digest(),
        code=digest("repair.audit"),
    shell:
        "python -m segstudy repair audit --cases {input.cases:q} {params.labels:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1 | tee {log:q}"
