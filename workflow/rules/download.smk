# One job a dataset fetches it; one audits every image and label.


rule download_fetch:
    output:
        directory(f"{RESULTS}/download/{{dataset}}/raw"),
    log:
        f"{RESULTS}/logs/download/{{dataset}}-fetch.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{dataset}}-fetch.tsv"
    # Compute nodes often have no network.
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(fetch_mb),
        runtime=runtime_min(600),
    params:
        source=lambda w: STUDY.datasets[w.dataset].source.to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].source.digest(),
        modality=lambda w: STUDY.datasets[w.dataset].modality,
        structures=lambda w: json.dumps(STUDY.datasets[w.dataset].structures),
        # A verified archive stays what it is, whatever becomes of the code that fetched it.
        code=lambda w: (
            digest("download.phantom")
            if isinstance(STUDY.datasets[w.dataset].source, PhantomSource)
            else ""
        ),
    shell:
        "python -m segstudy download fetch --dataset {wildcards.dataset}"
        " --settings {params.source:q} --modality {params.modality}"
        " --structures {params.structures:q} --output {output:q} 2>&1 | tee {log:q}"


checkpoint download_audit:
    input:
        delivered_files,
    output:
        cases=f"{RESULTS}/download/{{dataset}}/cases.tsv",
    log:
        f"{RESULTS}/logs/download/{{dataset}}-audit.log",
    benchmark:
        f"{RESULTS}/benchmarks/download/{{dataset}}-audit.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        # How large the images are is not known yet; two of 150 million voxels are read at a time.
        mem_mb=memory_mb(8000),
        runtime=runtime_min(240),
    params:
        # Not declared: what a failed job declared is deleted, and this says why it failed.
        problems=lambda w, output: str(Path(output.cases).with_name("problems.tsv")),
        raw=lambda w, input: ["--raw", input[0]] if is_fetched(w.dataset) else [],
        # Snakemake passes over a file that was replaced by an older one.
        files=lambda w: state_of(delivered_files(w)),
        settings=lambda w: STUDY.datasets[w.dataset].delivered().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].delivered().digest(),
        code=digest("download.audit"),
    shell:
        "python -m segstudy download audit --dataset {wildcards.dataset} {params.raw:q}"
        " --settings {params.settings:q} --cases {output.cases:q} --problems {params.problems:q}"
        " --threads {threads} 2>&1 | tee {log:q}"
