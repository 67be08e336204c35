# Folds, then what each fold's training cases say about grid and intensities, then arrays by shard.


rule preprocess_split:
    input:
        [f"{RESULTS}/download/{dataset}/cases.tsv" for dataset in STUDY.datasets],
    output:
        f"{RESULTS}/preprocess/splits.tsv",
    log:
        f"{RESULTS}/logs/preprocess/split.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/split.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        cases=lambda w, input: [f"{dataset}={path}" for dataset, path in zip(STUDY.datasets, input)],
        settings=split_settings().to_json(),
        defaults=split_settings().digest(),
        code=digest("preprocess.split"),
    shell:
        "python -m segstudy preprocess split --cases {params.cases:q}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_fingerprint:
    input:
        images=lambda w: shard_files(w, "images"),
        labels=shard_labels,
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        f"{RESULTS}/preprocess/{{dataset}}/fingerprints/{{shard}}.json",
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-fingerprint-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-fingerprint-{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 500 + 5 * image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 10 + 0.02 * shard_mb(w)),
    params:
        files=lambda w: state_of(shard_files(w, "images"), shard_labels(w)),
        select=selected,
        labels=lambda w: labels_option(w.dataset),
        settings=lambda w: STUDY.datasets[w.dataset].cohort().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].cohort().digest(),
        code=digest("preprocess.fingerprint"),
    shell:
        "python -m segstudy preprocess fingerprint --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


checkpoint preprocess_plan:
    input:
        splits=f"{RESULTS}/preprocess/splits.tsv",
        fingerprints=lambda w: [
            f"{RESULTS}/preprocess/{dataset}/fingerprints.txt"
            for dataset in STUDY.fitted_on(w.plan)
        ],
    output:
        f"{RESULTS}/preprocess/plans/{{plan}}/fold-{{fold}}.json",
    log:
        f"{RESULTS}/logs/preprocess/plan-{{plan}}-fold-{{fold}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/plan-{{plan}}-fold-{{fold}}.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(20),
    params:
        settings=lambda w: plan_settings(w.plan).to_json(),
        defaults=lambda w: plan_settings(w.plan).digest(),
        code=digest("preprocess.plan"),
    shell:
        "python -m segstudy preprocess plan --splits {input.splits:q}"
        " --fingerprints {input.fingerprints:q} --fold {wildcards.fold}"
        " --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_resample:
    input:
        images=lambda w: shard_files(w, "images"),
        labels=shard_labels,
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        directory(f"{RESULTS}/preprocess/{{dataset}}/{{plan}}/{{grid}}/{{shard}}"),
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-{{plan}}-{{grid}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-{{plan}}-{{grid}}-{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(
            lambda w: 500 + 4 * image_mb(w.dataset) + 4 * image_mb(w.dataset, parse_grid(w.grid))
        ),
        runtime=runtime_min(lambda w: 10 + 0.04 * shard_mb(w)),
    params:
        files=lambda w: state_of(shard_files(w, "images"), shard_labels(w)),
        select=selected,
        labels=lambda w: labels_option(w.dataset),
        settings=lambda w: resample_settings(w.dataset, w.plan).to_json(),
        defaults=lambda w: resample_settings(w.dataset, w.plan).digest(),
        code=digest("preprocess.resample"),
    shell:
        "python -m segstudy preprocess resample --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --grid {wildcards.grid} --settings {params.settings:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule preprocess_tissues:
    input:
        labels=shard_labels,
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        directory(f"{RESULTS}/preprocess/{{dataset}}/tissues/{{plan}}/{{grid}}/{{shard}}"),
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-tissues-{{plan}}-{{grid}}-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-tissues-{{plan}}-{{grid}}-{{shard}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(
            lambda w: 500 + 4 * image_mb(w.dataset) + 4 * image_mb(w.dataset, parse_grid(w.grid))
        ),
        runtime=runtime_min(lambda w: 10 + 0.04 * shard_mb(w)),
    params:
        files=lambda w: state_of(shard_labels(w)),
        select=selected,
        labels=lambda w: labels_option(w.dataset),
        settings=lambda w: tissue_settings(w.dataset, w.plan).to_json(),
        defaults=lambda w: tissue_settings(w.dataset, w.plan).digest(),
        code=digest("preprocess.tissues"),
    shell:
        "python -m segstudy preprocess tissues --dataset {wildcards.dataset}"
        " --cases {input.cases:q} {params.labels:q} --select {params.select:q}"
        " --grid {wildcards.grid} --settings {params.settings:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


# Lists of shards. A command line holds some 2,000 paths, and a study's trainings would each depend
# on every one.


rule preprocess_list_fingerprints:
    input:
        shards=shards_in(f"{RESULTS}/preprocess/{{dataset}}/fingerprints", ".json"),
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        f"{RESULTS}/preprocess/{{dataset}}/fingerprints.txt",
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-list-fingerprints.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-list-fingerprints.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        folder=lambda w, input: str(Path(input.shards[0]).parent),
        cases_per_job=lambda w: STUDY.datasets[w.dataset].cases_per_job,
        code=digest("cases"),
    shell:
        "python -m segstudy preprocess list --cases {input.cases:q}"
        " --cases-per-job {params.cases_per_job} --folder {params.folder:q} --suffix .json"
        " --output {output:q} 2>&1 | tee {log:q}"


rule preprocess_list_arrays:
    input:
        shards=shards_in(f"{RESULTS}/preprocess/{{dataset}}/{{plan}}/{{grid}}"),
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        f"{RESULTS}/preprocess/{{dataset}}/{{plan}}/shards-{{grid}}.txt",
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-{{plan}}-{{grid}}-list.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-{{plan}}-{{grid}}-list.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(10),
    params:
        folder=lambda w, input: str(Path(input.shards[0]).parent),
        cases_per_job=lambda w: STUDY.datasets[w.dataset].cases_per_job,
        code=digest("cases"),
    shell:
        "python -m segstudy preprocess list --cases {input.cases:q}"
        " --cases-per-job {params.cases_per_job} --folder {params.folder:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


use rule preprocess_list_arrays as preprocess_list_tissues with:
    input:
        shards=shards_in(f"{RESULTS}/preprocess/{{dataset}}/tissues/{{plan}}/{{grid}}"),
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        f"{RESULTS}/preprocess/{{dataset}}/tissues/{{plan}}/shards-{{grid}}.txt",
    log:
        f"{RESULTS}/logs/preprocess/{{dataset}}-tissues-{{plan}}-{{grid}}-list.log",
    benchmark:
        f"{RESULTS}/benchmarks/preprocess/{{dataset}}-tissues-{{plan}}-{{grid}}-list.tsv"
