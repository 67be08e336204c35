# One job a dataset fetches it; one audits every image and label.


rule download:
    input:
        [PATHS.cases(dataset) for dataset in STUDY.datasets],
    localrule: True


# What needs a network: to be run where there is one, before a study runs where there is none.
rule download_all:
    input:
        [PATHS.raw(dataset) for dataset in STUDY.datasets if INPUTS.is_fetched(dataset)],
    localrule: True


rule download_fetch:
    output:
        directory(PATHS.raw()),
    log:
        PATHS.log("download", "{dataset}-fetch"),
    benchmark:
        PATHS.benchmark("download", "{dataset}-fetch")
    # Compute nodes often have no network.
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: RESOURCES.fetch_mb(w.dataset)),
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


# What is known of the subjects beside their images: for subgroups, and the report's table of the cohort.
rule download_participants:
    input:
        cases=PATHS.cases(),
        found=lambda w: INPUTS.participant_tables(w.dataset)["found"],
        named=lambda w: INPUTS.participant_tables(w.dataset)["named"],
    output:
        PATHS.participants(),
    log:
        PATHS.log("download", "{dataset}-participants"),
    benchmark:
        PATHS.benchmark("download", "{dataset}-participants")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(60),
    params:
        found=lambda w, input: ["--found", *input.found] if input.found else [],
        named=lambda w, input: ["--tables", *input.named] if input.named else [],
        # Snakemake passes over a file that was replaced by an older one.
        files=lambda w: state_of(*INPUTS.participant_tables(w.dataset).values()),
        code=digest("participants"),
    shell:
        "python -m segstudy download participants --dataset {wildcards.dataset} --cases {input.cases:q}"
        " {params.found:q} {params.named:q} --output {output:q} 2>&1 | tee {log:q}"


# The user's own files. Every job asks whether the audit's inputs are what it makes: one is asked fast.
rule download_list:
    input:
        in_a_sentence(lambda w: INPUTS.listed(w.dataset)),
    output:
        PATHS.delivered_list(),
    log:
        PATHS.log("download", "{dataset}-list"),
    benchmark:
        PATHS.benchmark("download", "{dataset}-list")
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=runtime_min(60),
    params:
        # Snakemake passes over a file that was replaced by an older one, and over a param that uses `input`.
        files=lambda w: state_of(INPUTS.listed(w.dataset)),
        source=lambda w: STUDY.datasets[w.dataset].source.to_json(),
    shell:
        "python -m segstudy download list --settings {params.source:q} --output {output:q}"
        " 2>&1 | tee {log:q}"


checkpoint download_audit:
    input:
        in_a_sentence(lambda w: start_of_module() or INPUTS.looked_at(w.dataset)),
        corrections=in_a_sentence(lambda w: INPUTS.corrections(w.dataset)),
    output:
        cases=PATHS.cases(),
    log:
        PATHS.log("download", "{dataset}-audit"),
    benchmark:
        PATHS.benchmark("download", "{dataset}-audit")
    conda:
        "../../envs/cpu.yaml"
    threads: 2
    resources:
        # How large the images are is not known yet; two of 150 million voxels are read at a time.
        mem_mb=memory_mb(8000),
        runtime=runtime_min(240),
    params:
        # Not declared: what a failed job declared is deleted, and this says why it failed.
        problems=lambda w: PATHS.problems(w.dataset),
        raw=lambda w, input: ["--raw", input[0]] if INPUTS.is_fetched(w.dataset) else [],
        corrections=in_a_sentence(lambda w: INPUTS.corrections_option(w.dataset)),
        # Snakemake passes over a file that was replaced by an older one.
        corrected=in_a_sentence(lambda w: state_of(INPUTS.corrections(w.dataset))),
        settings=lambda w: STUDY.datasets[w.dataset].delivered().to_json(),
        defaults=lambda w: STUDY.datasets[w.dataset].delivered().digest(),
        code=lambda w: audit_code(STUDY, w.dataset),
    shell:
        "python -m segstudy download audit --dataset {wildcards.dataset} {params.raw:q}"
        " {params.corrections:q} --settings {params.settings:q} --cases {output.cases:q} --problems {params.problems:q}"
        " --threads {threads} 2>&1 | tee {log:q}"
