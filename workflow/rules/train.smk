# One job a model, fold and seed.


# All of them: the target `train`; of some models, --config only=MODEL,MODEL.
rule train:
    input:
        targets.trainings(STUDY, PATHS, ONLY),
    localrule: True


rule train_fit:
    input:
        arrays=lambda w: INPUTS.training_arrays(w.model, fold_of(w)),
        splits=PATHS.splits,
        plan=lambda w: INPUTS.training_plan(w.model, fold_of(w)),
        images=lambda w: INPUTS.training_images(w.model),
        cases=lambda w: ancient(INPUTS.seen_tables(w.model)),
    output:
        # The running checkpoint lies beside these and is not declared: it survives a killed job.
        weights=f"{PATHS.training()}/weights.pt",
        best=f"{PATHS.training()}/best.pt",
        history=f"{PATHS.training()}/history.csv",
        settings=f"{PATHS.training()}/settings.json",
    log:
        PATHS.log("train", "{model}-fold-{fold}-seed-{seed}"),
    benchmark:
        PATHS.benchmark("train", "{model}-fold-{fold}-seed-{seed}")
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "images", "nnunet")),
    conda:
        conda_file
    threads: lambda w: STUDY.models[w.model].threads * RESOURCES.processes(w.model)
    resources:
        mem_mb=memory_mb(lambda w: RESOURCES.training_mb(w.model)),
        runtime=runtime_min(lambda w: STUDY.models[w.model].runtime_min),
        gpu=lambda w: RESOURCES.gpus(w.model),
        nodes=1,
        # Not a param: where a job runs is no reason to run it again.
        device=lambda w: RESOURCES.device(w.model),
        attempt=lambda w, attempt: attempt,
        processes=lambda w: RESOURCES.processes(w.model),
        workers=lambda w: getattr(STUDY.models[w.model], "workers", 0),
        tensorboard=lambda w: (
            "yes" if getattr(STUDY.models[w.model], "tensorboard", False) else "no"
        ),
        finished=PATHS.finished,
        finished_gb=FINISHED_GB,
    params:
        folder=subpath(output.weights, parent=True),
        fold=lambda w: fold_of(w),
        data=lambda w, input: slices.training_options(
            STUDY, PATHS, w.model, input.arrays, input.plan
        ),
        settings=lambda w: slices.train_settings(STUDY, w.model).to_json(),
        defaults=lambda w: slices.train_settings(STUDY, w.model).digest(),
        # Its content, wherever the file lies.
        initial=in_a_sentence(lambda w: slices.initial_weights(STUDY, w.model)),
        code=lambda w: training_code(STUDY.models[w.model]),
    shell:
        # Ctrl-C, a closed terminal and SLURM's warnings go to every process of a job. Only the training acts on them; the
        # shell and tee outlive them, so that its state is saved and its last words are heard.
        "trap : INT TERM HUP USR1; python -m segstudy train {params.data:q} --splits {input.splits:q}"
        " --fold {params.fold} --seed {wildcards.seed}"
        " --settings {params.settings:q} --device {resources.device}"
        " --processes {resources.processes} --threads {threads} --workers {resources.workers}"
        " --memory-mb {resources.mem_mb} --tensorboard {resources.tensorboard} --attempt {resources.attempt} --finished {resources.finished:q}"
        " --finished-gb {resources.finished_gb} --output {params.folder:q}"
        " 2>&1 | (trap '' INT TERM HUP USR1; exec tee {log:q})"


use rule train_fit as train_synth with:
    output:
        weights=f"{PATHS.training()}/weights.pt",
        best=f"{PATHS.training()}/best.pt",
        history=f"{PATHS.training()}/history.csv",
        settings=f"{PATHS.training()}/settings.json",
        samples=f"{PATHS.training()}/samples.npz",
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "synth")),


use rule train_fit as train_plugin with:
    output:
        weights=f"{PATHS.training()}/trained.tar",
        settings=f"{PATHS.training()}/settings.json",
    wildcard_constraints:
        model=targets.any_of(targets.models_of(STUDY, "plugin")),


# Of models with `train_on_all`, for use outside the study.
use rule train_fit as train_all_fit with:
    output:
        weights=f"{PATHS.training_on_all()}/weights.pt",
        best=f"{PATHS.training_on_all()}/best.pt",
        history=f"{PATHS.training_on_all()}/history.csv",
        settings=f"{PATHS.training_on_all()}/settings.json",
    log:
        PATHS.log("train", "{model}-all-seed-{seed}"),
    benchmark:
        PATHS.benchmark("train", "{model}-all-seed-{seed}")


use rule train_synth as train_all_synth with:
    output:
        weights=f"{PATHS.training_on_all()}/weights.pt",
        best=f"{PATHS.training_on_all()}/best.pt",
        history=f"{PATHS.training_on_all()}/history.csv",
        settings=f"{PATHS.training_on_all()}/settings.json",
        samples=f"{PATHS.training_on_all()}/samples.npz",
    log:
        PATHS.log("train", "{model}-all-seed-{seed}"),
    benchmark:
        PATHS.benchmark("train", "{model}-all-seed-{seed}")


use rule train_plugin as train_all_plugin with:
    output:
        weights=f"{PATHS.training_on_all()}/trained.tar",
        settings=f"{PATHS.training_on_all()}/settings.json",
    log:
        PATHS.log("train", "{model}-all-seed-{seed}"),
    benchmark:
        PATHS.benchmark("train", "{model}-all-seed-{seed}")
