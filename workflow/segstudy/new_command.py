"""`segstudy new`: write a first study file, for a folder or with a case table, a profile, folds dealt afresh, or metrics that suit."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from segstudy import shipped
from segstudy.errors import InputError
from segstudy.files import write_text
from segstudy.folds import refuse_twin
from segstudy.metric_questions import Ask, ask_all, from_terminal, recommend, with_answers

TEMPLATE = shipped.RESOURCES / "new_study.yaml"
TABLE = "cases.tsv"
HEADER = "case\tsubject\timage\tlabel\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file to write, or the profile, to the parser."""
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        help=f"study file to write (default: study.yaml); {TABLE} goes beside it, where there is none",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="write NAME/config.yaml to edit instead, for --profile NAME in this folder; slurm is there",
    )
    parser.add_argument(
        "--splits",
        metavar="STUDY",
        help="let the next run of a study deal its subjects into folds afresh, whatever the file of folds says",
    )
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="STUDY",
        help="ask what the structures of a study file are like, and write the metrics that suit them into it, with reasons",
    )
    parser.add_argument(
        "--from",
        dest="origin",
        nargs="+",
        metavar="WHAT",
        help="write the study file of what is there: `DIR` proposes the dataset by the files in a folder (layout or patterns, "
        "structures, modality, and what is unsure); `nnunet RESULTS_DIR...` takes the predictions of a finished nnU-Net tree, "
        "`predictions REFERENCE_DIR PREDICTED_DIR...` those in folders of label maps (MONAI's, TotalSegmentator's)",
    )
    parser.add_argument(
        "--raw", type=Path, metavar="DIR", help="with --from nnunet: nnUNet_raw, for the images"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="with --from predictions: the folder of the images",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="as for a run, with --splits: results=DIR",
    )
    parser.epilog = "examples: segstudy new my-study/study.yaml; segstudy new --from /data/scans"


def run(options: argparse.Namespace) -> None:
    """Write what is asked for, and say what to do with it; nothing is written over.

    Raises InputError where a file is there already, and for a profile that does not come along.
    """
    asked = {
        "a study file": options.file,
        "--profile": options.profile,
        "--splits": options.splits,
        "--metrics": options.metrics,
    }
    given = [f"{what} ({value})" for what, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: ask for one at a time")
    if options.origin is not None and given and options.file is None:
        raise InputError(
            f"--from ({' '.join(options.origin)}): is for a study file; leave out {given[0]}"
        )
    if options.profile is not None:
        print(new_profile(options.profile, Path()))
    elif options.splits is not None:
        print(new_splits(options.splits, ["--config", *options.config]))
    elif options.metrics is not None:
        print(new_metrics(options.metrics))
    elif options.origin is not None:
        print(_new_from(options))
    else:
        print(new_study(options.file or Path("study.yaml")))


def _new_from(options: argparse.Namespace) -> str:
    """Write the study file of what `--from` names; the study file may stand behind it."""
    origin, file = options.origin, options.file
    if file is None and len(origin) > 1 and origin[-1].endswith((".yaml", ".yml")):
        *origin, last = origin
        file = Path(last)
    file = file or Path("study.yaml")
    if origin[0] in ("nnunet", "predictions"):
        return new_from(origin, file, options.raw, options.images)
    if len(origin) > 1:
        raise InputError(
            f"--from {' '.join(origin)}: expected one folder, `nnunet RESULTS_DIR...` or "
            "`predictions REFERENCE_DIR PREDICTED_DIR...`"
        )
    return new_study_from(Path(origin[0]), file)


def new_study_from(folder: Path, file: Path) -> str:
    """Write a study file for what is in a folder; return how much of it was found, what is unsure, and what to do next.

    Raises InputError where nothing in the folder is an image with a label, and as `new_study` does.
    """
    from segstudy.start import proposed_dataset

    _check_new(file)
    path = folder if folder.is_absolute() else Path(os.path.relpath(folder, file.parent))
    name = re.sub(r"\W+", "_", folder.resolve().name, flags=re.ASCII).strip("_").lower() or "mine"
    dataset, told = proposed_dataset(folder, name, path)
    head, _, rest = TEMPLATE.read_text(encoding="utf-8").partition("datasets:\n")
    text = f"{head}datasets:\n{dataset}\n{rest[rest.index('# --- Folds') :]}"
    write_text(file, text.replace("FILE", shlex.quote(str(file))))
    then = f"then: segstudy study {shlex.quote(str(file))} --cases"
    return "\n".join([f"{file}: {told[0]}", *told[1:], then])


def new_study(file: Path) -> str:
    """Write a study file and, where there is none, an empty case table beside it; return what to do next."""
    _check_new(file)
    write_text(file, TEMPLATE.read_text(encoding="utf-8").replace("FILE", shlex.quote(str(file))))
    table = file.parent / TABLE
    if table.exists():
        beside = f"{table} was there and is left as it is"
    else:
        write_text(table, HEADER)
        beside = f"{table}: fill in a row a case, with tabs between the cells"
    return f"{file}: edit structures and modality\n{beside}\nthen: segstudy preview {shlex.quote(str(file))}"


def new_from(
    origin: Sequence[str], file: Path, raw: Path | None = None, images: Path | None = None
) -> str:
    """Write the study file of predictions that are there already, and its table; return what to do next.

    Parameters
    ----------
    origin
        `nnunet` and folders, or `predictions`, the folder of references and folders of predictions.
    file
        The study file to write.
    raw
        nnU-Net's raw data.
    images
        The images of plain folders.
    """
    from segstudy import nnunet_tree, predicted_study

    kind, *folders = origin[0], *map(Path, origin[1:])
    least = {"nnunet": 1, "predictions": 2}
    if kind not in least or len(folders) < least[kind]:
        raise InputError(
            f"--from {' '.join(origin)}: expected `nnunet RESULTS_DIR...` or `predictions REFERENCE_DIR PREDICTED_DIR...`"
        )
    for option, given, of in (("--raw", raw, "nnunet"), ("--images", images, "predictions")):
        if given is not None and kind != of:
            raise InputError(f"{option} {given}: goes with --from {of}; leave it out")
    _check_new(file)
    if kind == "nnunet":
        study = nnunet_tree.read_tree(folders, raw)
    else:
        study = predicted_study.plain_folders(folders[0], folders[1:], images)
    table = predicted_study.write(study, file)
    lines = predicted_study.told(study, file, table)
    return "\n".join([*lines, f"then: segstudy run {shlex.quote(str(file))}"])


def new_profile(name: str, folder: Path) -> str:
    """Copy a profile that comes along into a folder; return what to do next."""
    known = sorted(path.name for path in shipped.PROFILES.iterdir() if path.name != "default")
    if name not in known:
        raise InputError(f"--profile {name}: no such profile; segstudy has {', '.join(known)}")
    file = folder / name / "config.yaml"
    _refuse(file)
    write_text(file, (shipped.PROFILES / name / "config.yaml").read_text(encoding="utf-8"))
    return f"{file}: edit the lines marked EDIT\nthen, from this folder: segstudy run STUDY --profile {shlex.quote(name)} -n"


def new_splits(chosen: str, config: Sequence[str] = ()) -> str:
    """Empty the file of a study's folds, so that its next run deals them afresh; return what to do next.

    config: `--config` as for a run, and its values (`results=DIR`).
    """
    from segstudy.folds import folds_file, write_folds
    from segstudy.jobs.command import config_of
    from segstudy.jobs.options import results_root, study_file
    from segstudy.study import read_study

    file = study_file(chosen, shipped.STUDIES)
    results = Path(results_root(config_of(chosen, config)))
    path = folds_file(file, shipped.STUDIES, results / read_study(file).name)
    write_folds(path, {})
    return (
        f"{path}: emptied; the next run deals all subjects into folds by splits.seed (the same subjects and seed give "
        f"the same folds: change it for others)\nthen: segstudy preview {shlex.quote(chosen)}"
    )


def new_metrics(file: Path, ask: Ask = from_terminal) -> str:
    """Ask for the structures of a study, write the metrics that suit them into its file, and return the warnings.

    What stands in these sections beside stays, as do order and remarks of the file, and what earlier answers asked for
    goes. ask: question -> answer.
    """
    from segstudy.study import read_study
    from segstudy.yaml_edits import YamlText
    from segstudy.yaml_files import read_yaml

    study = read_study(file)
    there = read_yaml(file)
    found = recommend(ask_all(study.structures, ask))
    sections = {
        name: {**(there.get(name) or {}), **settings} for name, settings in found.sections.items()
    }
    sections["metrics"] = with_answers(there.get("metrics") or {}, found.sections["metrics"])
    text = YamlText(file.read_text(encoding="utf-8"), str(file))
    for name in sections.keys() & there.keys():
        text.put_section(name, sections[name])
    text.begin_with({name: value for name, value in sections.items() if name not in there})
    write_text(file, text.text(lambda remark: remark))
    warned = [f"warning: {warning}" for warning in found.warnings]
    reasons = found.sections["metrics"]["reasons"]
    told = [f"{name}: {reason}" for name, reason in reasons.items()]
    return "\n".join(
        [*told, *warned, f"{file}: written; then: segstudy preview {shlex.quote(str(file))}"]
    )


def _check_new(file: Path) -> None:
    """Raise InputError where a study file of this name cannot be written."""
    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file}: a study file ends in .yaml: {file}.yaml")
    _refuse(file)
    refuse_twin(file)


def _refuse(file: Path) -> None:
    """Raise InputError where a file is there."""
    if file.exists():
        raise InputError(f"{file}: is there already, and is not written over; name another file")
