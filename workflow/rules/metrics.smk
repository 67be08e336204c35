# One job measures a folder of predictions; all tables are then put into one.


rule metrics_measure:
    input:
        prediction=f"{RESULTS}/infer/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}",
        labels=lambda w: dataset_labels(w.dataset),
        splits=f"{RESULTS}/preprocess/splits.tsv",
        cases=ancient(f"{RESULTS}/download/{{dataset}}/cases.tsv"),
    output:
        measures=f"{RESULTS}/metrics/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}.csv",
        confusion=f"{RESULTS}/metrics/{{model}}/fold-{{fold}}/seed-{{seed}}/confusion/{{dataset}}.csv",
    log:
        f"{RESULTS}/logs/metrics/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/metrics/{{model}}-fold-{{fold}}-seed-{{seed}}-{{dataset}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 1000 + 4 * image_mb(w.dataset)),
        runtime=runtime_min(lambda w: 30 + 0.04 * all_mb(w.dataset)),
    params:
        files=lambda w: state_of(dataset_labels(w.dataset)),
        labels=lambda w: labels_option(w.dataset),
        settings=lambda w: measure_settings(w.dataset).to_json(),
        defaults=lambda w: measure_settings(w.dataset).digest(),
        columns=lambda w: json.dumps(
            {
                "study": STUDY.name,
                "dataset": w.dataset,
                "model": w.model,
                "fold": int(w.fold),
                "seed": int(w.seed),
            }
        ),
        code=digest("metrics.pairs"),
    shell:
        "python -m segstudy metrics --cases {input.cases:q} {params.labels:q}"
        " --prediction {input.prediction:q} --splits {input.splits:q} --fold {wildcards.fold}"
        " --dataset {wildcards.dataset} --settings {params.settings:q}"
        " --columns {params.columns:q} --threads {threads} --output {output.measures:q}"
        " --confusion {output.confusion:q} 2>&1 | tee {log:q}"


rule metrics_collect:
    input:
        runs(f"{RESULTS}/metrics/{{model}}/fold-{{fold}}/seed-{{seed}}/{{dataset}}.csv"),
    output:
        f"{RESULTS}/metrics/metrics.csv",
    log:
        f"{RESULTS}/logs/metrics/collect.log",
    benchmark:
        f"{RESULTS}/benchmarks/metrics/collect.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=runtime_min(10),
    params:
        code=digest("metrics.table"),
    shell:
        "python -m segstudy metrics --collect {input:q} --output {output:q} 2>&1 | tee {log:q}"
