"""A training by a class of the user's own, on the fold's training cases alone."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from segstudy import finished, plugins, versions
from segstudy.files import make_folder, write_json, write_text
from segstudy.images.data_files import content_digest
from segstudy.log import log
from segstudy.networks.device import gpu_failures, not_again
from segstudy.own_trainers import TRAINED, built, case_of, pack, seed_all
from segstudy.train.fold import Fold
from segstudy.train.run import Run
from segstudy.train.seeds import seed_of

FILES = (TRAINED, "settings.json")


def fit(fold: Fold, run: Run) -> None:
    """Train by the plug-in and leave `trained.tar` and `settings.json` in `run.output`.

    The plug-in works in `output/unfinished/files`, which a killed job leaves there: its `fit` is called again with the
    same folder, unless settings, data or code have changed.

    Parameters
    ----------
    fold
        Cases and settings.
    run
        Where the training runs and where it writes.

    Raises
    ------
    InputError
        Where no case is left to train on, where the plug-in's code fails, and where it leaves nothing.
    """
    model, output = fold.model, run.output
    fold.check()
    trainer = built(model.trainer_plugin, model.options)
    key = _key(fold, run.code)
    name = finished.key("train", key, run.device.type, finished.versions_of())
    unfinished = output.resolve() / "unfinished"
    make_folder(output)
    if run.kept.restore(name, output):
        shutil.rmtree(unfinished, ignore_errors=True)
        return
    folder = _folder(unfinished, key)
    log.info(
        "%s: %d cases to train on, %d held out for validation, on %s",
        plugins.reference(model.trainer_plugin).label,
        len(fold.training),
        len(fold.validation),
        run.device.type,
    )
    told = _told(fold, run)
    torch.set_num_threads(run.threads)
    seed = seed_of(fold.seed, "trainer")
    seed_all(seed)
    torch.manual_seed(seed)
    smaller = "have the plug-in hold less of it, as by its options, or use a GPU with more"
    spared = not_again(unfinished / "gpu_memory.json", key, run.attempt)
    with spared, gpu_failures(smaller), plugins.telling(model.trainer_plugin):
        trainer.fit(
            [case_of(case) for case in fold.training],
            [case_of(case) for case in fold.validation],
            folder,
            told,
        )
    record = _record(fold)
    pack(folder, record, output / TRAINED)
    write_json(
        output / "settings.json",
        {
            **record,
            "device": run.device.type,
            "threads": run.threads,
            "versions": versions.imported(),
        },
    )
    run.kept.keep(name, output, FILES)
    shutil.rmtree(unfinished)


def _folder(unfinished: Path, key: str) -> Path:
    """Return the plug-in's folder: with what a killed job of the same settings, data and code left, or empty."""
    folder, held = unfinished / "files", unfinished / "key"
    if unfinished.exists() and (not held.is_file() or held.read_text() != key):
        log.info("files of other settings, data or code: removed, training starts anew")
        shutil.rmtree(unfinished)
    if folder.is_dir() and any(folder.iterdir()):
        log.info("the plug-in goes on from what a stopped job left in %s", folder)
    make_folder(folder)
    write_text(held, key)
    return folder


def _told(fold: Fold, run: Run) -> dict[str, Any]:
    """Return the `settings` that a plug-in's `fit` is given."""
    settings = fold.settings
    return {
        "structures": list(settings.structures),
        "channels": list(settings.channels),
        "modality": settings.modality,
        "left_right_pairs": [list(pair) for pair in settings.left_right_pairs],
        "fold": fold.number,
        "seed": fold.seed,
        "device": str(run.device),
        "threads": run.threads,
    }


def _record(fold: Fold) -> dict[str, Any]:
    """Return what is to be known of the training: settings, fold, the cases that it saw, plug-ins by label and digest."""
    settings = fold.settings.model_dump(mode="json")
    settings["model"] = fold.model.labelled()
    return {
        **settings,
        "fold": fold.number,
        "seed": fold.seed,
        "training": [case.name for case in fold.training],
        "validation": [case.name for case in fold.validation],
        "plugins": fold.model.plugin_provenance(),
    }


def _key(fold: Fold, code: str) -> str:
    """Compute the digest of all that decides a training, the content of the files too."""
    settings = fold.settings.model_dump(mode="json")
    settings["model"] = fold.model.learning().identified()
    described = [
        [case.name, case.case.subject, dict(case.structures), case.ignore] for case in fold.cases
    ]
    digest = hashlib.sha256(
        json.dumps([settings, fold.number, fold.seed, code, described, len(fold.training)]).encode()
    )
    for case in fold.cases:
        for path in (*case.case.images, case.case.label):
            digest.update(content_digest(path, f"case {case.name}").encode())
    return digest.hexdigest()
