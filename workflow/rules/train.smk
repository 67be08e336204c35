# One job a model, fold and seed.


rule train:
    input:
        arrays=training_arrays,
        splits=f"{RESULTS}/preprocess/splits.tsv",
        plan=training_plan,
        images=training_images,
        cases=lambda w: ancient(training_tables(w.model) if is_nnunet(w.model) else []),
    output:
        # The running checkpoint lies beside these and is not declared: it survives a killed job.
        weights=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/weights.pt",
        best=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/best.pt",
        history=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/history.csv",
        settings=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/settings.json",
    log:
        f"{RESULTS}/logs/train/{{model}}-fold-{{fold}}-seed-{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{model}}-fold-{{fold}}-seed-{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(models_of("images", "nnunet")),
    conda:
        environment
    threads: lambda w: STUDY.models[w.model].threads * processes(w.model)
    resources:
        mem_mb=memory_mb(training_mb),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: needs_gpu(w.model) * processes(w.model),
        nodes=1,
        # Not a param: where a job runs is no reason to run it again.
        device=lambda w: STUDY.models[w.model].device,
        processes=lambda w: processes(w.model),
        workers=lambda w: getattr(STUDY.models[w.model], "workers", 0),
        finished=FINISHED,
        finished_gb=FINISHED_GB,
    params:
        files=lambda w: state_of(training_images(w)),
        folder=subpath(output.weights, parent=True),
        data=training_data,
        settings=lambda w: train_settings(w.model).to_json(),
        defaults=lambda w: train_settings(w.model).digest(),
        code=lambda w: training_code(w.model),
    shell:
        # Ctrl-C, a closed terminal and SLURM's warnings go to every process of a job. Only the training acts on them; the
        # shell and tee outlive them, so that its state is saved and its last words are heard.
        "trap : INT TERM HUP USR1; python -m segstudy train {params.data:q} --splits {input.splits:q}"
        " --fold {wildcards.fold} --seed {wildcards.seed}"
        " --settings {params.settings:q} --device {resources.device}"
        " --processes {resources.processes} --threads {threads} --workers {resources.workers}"
        " --memory-mb {resources.mem_mb} --finished {resources.finished:q}"
        " --finished-gb {resources.finished_gb} --output {params.folder:q}"
        " 2>&1 | (trap '' INT TERM HUP USR1; exec tee {log:q})"


use rule train as train_synth with:
    output:
        weights=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/weights.pt",
        best=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/best.pt",
        history=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/history.csv",
        settings=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/settings.json",
        samples=f"{RESULTS}/train/{{model}}/fold-{{fold}}/seed-{{seed}}/samples.npz",
    wildcard_constraints:
        model=any_of(models_of("synth")),
