"""`segstudy infer`: labels for the tested cases of a study's fold, or for any images."""

import argparse
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from segstudy import finished, gpus
from segstudy.errors import InputError
from segstudy.files import parse_json

EXAMPLES = """
images outside any study:
  segstudy infer --weights weights.pt --output predictions scan_1.nii.gz scan_2.nii.gz
  segstudy infer --weights weights.pt --output predictions t1.nii.gz,t2.nii.gz
  segstudy infer --weights weights.pt --output predictions scans/
  segstudy infer --weights weights.pt --output predictions --format dicom-seg patient_1/series_3/
  segstudy infer --weights weights.pt --plugin my_net.py --output predictions scans/
several networks as one, whose probabilities are averaged; and a bundle of them (`segstudy bundle`):
  segstudy infer --weights 'fold-*/seed-*/weights.pt' --output predictions --probabilities scans/
  segstudy infer --weights model.bundle --output predictions scans.csv
the tested cases of a study's fold (the workflow calls this):
  segstudy infer --weights weights.pt --output DIR --cases cases.tsv --dataset NAME \\
    --splits splits.tsv --fold 0 --structures '{"heart": 2}' --training-cases NAME=cases.tsv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `segstudy infer`."""
    parser.epilog = EXAMPLES
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        help="weights files of `segstudy train`, or bundles of `segstudy bundle`; of several the probabilities are "
        "averaged; a pattern in quotes stands for the files that it matches",
    )
    by.add_argument(
        "--trained",
        type=Path,
        metavar="TAR",
        help="trained.tar of a trainer of your own (with --plugin); it predicts the tested cases of a fold",
    )
    by.add_argument(
        "--external",
        metavar="JSON",
        help="a program of others, ExternalSettings as JSON; it predicts the tested cases of a fold",
    )
    by.add_argument(
        "--predictions",
        metavar="JSON",
        help="label maps that are there already, PredictionSettings as JSON; those of the tested cases of a fold are read",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        metavar="FILE",
        help="the weights' network or the trainer, where it is a plug-in: FILE.py or MODULE:NAME, of the code then; once for "
        "each plug-in of an ensemble",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the labels")
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        help="where to predict (default: as the weights' settings say)",
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument(
        "--structures",
        metavar="JSON",
        help="values in the label files, {structure: value} (default: 1, 2, ... in the order of the weights)",
    )
    parser.add_argument(
        "--settings",
        metavar="JSON",
        help="how to predict, a model's `infer` of a study file (default: as the weights say)",
    )
    finished.add_arguments(parser)
    outside = parser.add_argument_group("images outside any study")
    outside.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="an image file, with all channels in its fourth axis; or a file a channel, with commas between; "
        "or a folder of image files, where case_0000.nii.gz, case_0001.nii.gz are channels of a case; or the folder "
        "of a DICOM series, or one of such folders; or a table (.tsv, .csv) with columns case and image",
    )
    outside.add_argument(
        "--format",
        choices=["nifti", "seg.nrrd", "dicom-seg"],
        default="nifti",
        help="of the label files: NIfTI; .seg.nrrd of 3D Slicer with names and colours; DICOM-SEG, of DICOM series alone, "
        "which refers to the series and holds its patient's fields, as archives need them (default: nifti)",
    )
    outside.add_argument(
        "--spacing-mm",
        nargs=3,
        type=_size_mm,
        default=(),
        metavar=("COLUMN", "ROW", "SLICE"),
        help="size of a voxel of pictures (PNG, TIFF), which do not tell it: from column to column, row to row, slice to slice",
    )
    outside.add_argument(
        "--postprocessing",
        type=Path,
        metavar="JSON",
        help="postprocessing.json of a fold: which structures to reduce to their largest component "
        "(default: none, or all where the model says `always`)",
    )
    outside.add_argument(
        "--probabilities",
        action="store_true",
        help="write NAME.npz with the class probabilities beside each label file, as `segstudy metrics --probabilities` reads them",
    )
    outside.add_argument(
        "--trained-on-too",
        action="store_true",
        help="predict images that the weights were trained on, too; they are refused where the weights know their images",
    )
    outside.add_argument(
        "--uncertainty",
        action="store_true",
        help="write maps of what members disagree on, entropy/NAME.nii.gz and mutual_information/NAME.nii.gz, in nats; members "
        "are several weights, samples of --mc-dropout, or the image mirrored where the settings have mirror_axes",
    )
    outside.add_argument(
        "--mc-dropout",
        type=int,
        metavar="N",
        help="predict N times with dropout at work, and average; for networks with dropout (default: as the weights' settings "
        "say; 0: not so)",
    )
    outside.add_argument(
        "--quality",
        action="store_true",
        help="write quality.csv: how far members agree on each structure; of a single network, predictions of the image "
        "with noise, other gamma and a shift",
    )
    outside.add_argument(
        "--calibration",
        type=Path,
        metavar="JSON",
        help="statistics/quality/MODEL.json of the study that trained the weights (default: with --quality, that of a bundle): "
        "quality.csv then has predicted Dice and volume with 90 %% intervals, and flags scans that are unlike those of the study, "
        "with the reason",
    )
    study = parser.add_argument_group("the tested cases of a fold")
    study.add_argument("--cases", type=Path, help="case table of the dataset")
    study.add_argument(
        "--labels", type=Path, help="the dataset's repaired labels, where it has some"
    )
    study.add_argument("--dataset", help="name of the dataset")
    study.add_argument("--splits", type=Path, help="table of splits")
    study.add_argument("--fold", type=int, help="the fold, counted from 0")
    study.add_argument(
        "--attempt",
        type=int,
        default=1,
        metavar="N",
        help="of a further attempt its number: a GPU whose memory was too small is not tried again",
    )
    study.add_argument("--seed", type=int, default=0, help="with --predictions: the seed")
    study.add_argument(
        "--training-cases",
        nargs="+",
        default=[],
        metavar="DATASET=TABLE[:LABELS]",
        help="case tables (.tsv) of the training datasets, and folders of their repaired labels; "
        "post-processing is chosen on training cases",
    )
    study.add_argument(
        "--training-structures",
        metavar="JSON",
        default="{}",
        help="label values of the other training datasets, {dataset: {structure: value}}",
    )
    study.add_argument(
        "--ignore",
        metavar="JSON",
        default="{}",
        help="values of voxels that nobody has labelled, {dataset: [value, ...]}; post-processing is chosen "
        "without them",
    )


def _size_mm(text: str) -> float:
    """Return a length in mm."""
    try:
        length = float(text)
    except ValueError:
        length = 0.0
    if not 0 < length < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a length in mm, above 0")
    return length


def run(options: argparse.Namespace) -> None:
    """Predict as the options say."""
    of_study = ["cases", "dataset", "splits", "fold", "structures"]
    given = [name for name in of_study[:4] if getattr(options, name) is not None]
    if options.external and options.images:
        raise InputError("--external predicts the cases of a study; for images, run its command")
    if options.trained and options.images:
        raise InputError("--trained predicts the cases of a study; for images, call the plug-in")
    if options.predictions and options.images:
        raise InputError("--predictions reads label maps of the cases of a study; leave IMAGE out")
    if options.weights and not options.images and not given:
        raise InputError(
            "nothing to predict: name images, or the cases of a study (--cases ...). Images follow --output or another option: "
            "what follows --weights is read as weights"
        )
    if options.images and given:
        raise InputError(
            f"--{given[0]} is for the cases of a study, and IMAGE for images outside one"
        )
    if options.images:
        _predict_images(options)
        return
    needed = of_study[:4] if options.predictions else of_study
    missing = [name for name in needed if getattr(options, name) is None]
    if not given:
        raise InputError("nothing to predict: name images, or the cases of a study (--cases ...)")
    if missing:
        raise InputError(f"--{missing[0]} is missing; the cases of a study need it")
    _predict_fold(options)


def _predict_fold(options: argparse.Namespace) -> None:
    from segstudy.cases import leaks_on_request, read_cases, read_splits, tested, training_side

    names = tested(read_splits(options.splits), options.fold, options.dataset)
    if not names:
        raise InputError(
            f"{options.splits}: fold {options.fold} tests no case of dataset {options.dataset}"
        )
    if options.predictions:
        _gather(names, options)
        return
    cases = read_cases(options.cases, names)
    images = {case.case: case.images for case in cases}
    structures = _structures(options.structures, "--structures")
    if options.external:
        _predict_external(images, structures, options)
        return
    from segstudy.networks.device import not_again

    if options.attempt > 1 and options.device != "cpu":
        gpus.claim(1)  # before torch looks how large it is
    note = Path(f"{options.output}.partial", "gpu_memory.json")
    asked = {key: value for key, value in vars(options).items() if key != "attempt"}
    with not_again(note, repr(sorted(asked.items())), options.attempt):
        if options.trained:
            _predict_by_plugin(images, structures, options)
        else:
            splits = read_splits(options.splits)
            side = training_side(splits, options.fold) if leaks_on_request(splits) else []
            training = {f"{split.dataset}/{split.case}" for split in side}
            _predict_by_weights(cases, training, structures, options)


def _predict_by_weights(
    cases: list, training: set[str], structures: dict[str, int], options: argparse.Namespace
) -> None:
    from segstudy.infer.predict import choice_names, predict_fold, refuse_leaks
    from segstudy.seen_cases import checksums

    images = {case.case: case.images for case in cases}
    trained, device, _ = _load(options)
    dataset = options.dataset
    refuse_leaks(trained, options.fold, dataset, images, checksums(dataset, cases), training)
    choosing = _labelled(choice_names(trained, _label_maps(options)), options, structures)
    kept = finished.Finished.of(options)
    predict_fold(trained, images, structures, choosing, device, options.output, kept)


def _gather(names: list[str], options: argparse.Namespace) -> None:
    from segstudy.cases import read_cases
    from segstudy.study import PredictionSettings, from_json

    settings = from_json(PredictionSettings, options.predictions)
    # By name, so that an edit to it is no change of what networks predict.
    predictions = importlib.import_module("segstudy.infer.predictions")
    cases = read_cases(options.cases)
    tested = predictions.Tested(options.fold, options.seed, names, cases)
    predictions.gather_fold(settings, tested, options.output)


def _predict_external(
    images: dict[str, tuple[Path, ...]], structures: dict[str, int], options: argparse.Namespace
) -> None:
    from segstudy.study import ExternalSettings, from_json

    settings = from_json(ExternalSettings, options.external)
    if settings.model.device != "cpu":
        gpus.claim(1)  # for the program, by CUDA_VISIBLE_DEVICES
    # By name, so that an edit to it is no change of what networks predict.
    external = importlib.import_module("segstudy.infer.external")
    threads = options.threads or settings.model.threads
    kept = finished.Finished.of(options)
    external.predict_fold(settings, images, structures, threads, options.output, kept)


def _predict_by_plugin(
    images: dict[str, tuple[Path, ...]], structures: dict[str, int], options: argparse.Namespace
) -> None:
    if options.device != "cpu":
        gpus.claim(1)  # for the plug-in, by CUDA_VISIBLE_DEVICES
    # By name, so that an edit to it is no change of what networks predict.
    trainer = importlib.import_module("segstudy.infer.plugin_trainer")
    trainer.predict_fold(
        options.trained,
        options.plugin[0] if options.plugin else None,
        trainer.Tested(options.fold, options.dataset, images),
        structures,
        options.output,
        finished.Finished.of(options),
    )


def _label_maps(options: argparse.Namespace) -> list[str]:
    """List the training datasets that have no images, as the one that is predicted has."""
    from segstudy.cases import read_cases

    tables = {dataset: table for dataset, table, _ in map(_table, options.training_cases)}
    return [
        dataset
        for dataset, table in tables.items()
        if dataset != options.dataset and not any(case.images for case in read_cases(table))
    ]


def _labelled(names: list[str], options: argparse.Namespace, structures: dict[str, int]) -> list:
    """Read the cases `dataset/case` of the training side, with the structures in their labels."""
    from segstudy.cases import Labelled, ignored_values, read_cases, repaired_labels

    ignore = ignored_values(options.ignore)
    tables = {options.dataset: (options.cases, options.labels)}
    tables |= {dataset: files for dataset, *files in map(_table, options.training_cases)}
    values = _json(options.training_structures, "--training-structures")
    values[options.dataset] = structures
    labelled = []
    for dataset in sorted({name.partition("/")[0] for name in names}):
        if dataset not in tables:
            raise InputError(
                f"--training-cases: no table of dataset {dataset}, on whose cases post-processing "
                f"is chosen; add {dataset}=cases.tsv"
            )
        if dataset not in values:
            raise InputError(
                f"--training-structures: no label values of dataset {dataset}, on whose cases "
                f'post-processing is chosen; give {{"{dataset}": {{structure: value}}}}'
            )
        table, labels = tables[dataset]
        select = [name.partition("/")[2] for name in names if name.startswith(f"{dataset}/")]
        for case in repaired_labels(read_cases(table, select), labels):
            labelled.append(Labelled(dataset, case, values[dataset], ignore.get(dataset, ())))
    return labelled


def _predict_images(options: argparse.Namespace) -> None:
    from segstudy.files import check_folder_name, read_json
    from segstudy.images.label_formats import LABEL_FORMATS
    from segstudy.infer import postprocess
    from segstudy.infer.input_images import named_images
    from segstudy.infer.outside import Files, predict_images
    from segstudy.infer.predict import keeping, unguarded, values_of
    from segstudy.log import log

    check_folder_name(options.output)
    written = LABEL_FORMATS[options.format]
    trained, device, loaded = _load(options)
    images = named_images(options.images, options.output, written.suffix, trained.channels)
    images, refused = _checked(images, written.check)
    structures = {name: number for number, name in enumerate(trained.structures, 1)}
    if options.structures is not None:
        structures = _structures(options.structures, "--structures")
        values_of(trained, structures, "--structures")
    written.check_names(structures)
    setting = keeping(trained)
    choices = {name: postprocess.Choice(setting == "always") for name in trained.structures}
    if options.postprocessing:
        record = read_json(options.postprocessing)
        choices = postprocess.from_record(record, trained.structures, str(options.postprocessing))
    elif setting == "auto":
        log.info(
            "all components are kept: whether to keep the largest is chosen in a study; "
            "--postprocessing takes a fold's postprocessing.json"
        )
    if options.trained_on_too:
        trained = unguarded(trained)
    print(_listing(structures, [name for name in choices if choices[name].keep_largest]))
    files = Files(options.format, tuple(options.spacing_mm), options.probabilities, loaded.colours)
    trained, files = _several(trained, files, loaded.calibration, options)
    try:
        predict_images(trained, images, structures, choices, device, options.output, files)
    except InputError as error:
        raise InputError("\n".join([*refused, str(error)])) from None
    if refused:
        raise InputError("\n".join(refused))


def _several(trained, files, of_bundle: Mapping | None, options: argparse.Namespace):
    """Return what predicts an image several times, and files that tell of its quality, where options or settings ask.

    of_bundle: the calibration that a bundle brought, which --calibration goes before.
    """
    from segstudy.files import read_json
    from segstudy.infer.predict import samples_of
    from segstudy.log import log

    samples = options.mc_dropout
    if samples is None:
        samples = samples_of(trained)
    if samples == 1 or samples < 0:
        raise InputError(f"--mc-dropout {samples}: expected 2 or more samples, or 0")
    if not (samples or options.uncertainty or options.quality or options.calibration):
        return trained, files
    # By name, so that an edit to it is no change of what is predicted once.
    uncertainty = importlib.import_module("segstudy.infer.uncertainty")
    judging = options.quality or options.calibration is not None
    calibration, where = None, str(options.calibration or f"{options.weights[0]}: its calibration")
    record = read_json(options.calibration) if options.calibration else of_bundle
    if judging and record is not None:
        quality = importlib.import_module("segstudy.infer.quality")
        calibration = quality.calibration_of(record, trained.structures, where)
    several = uncertainty.sampled(trained, samples, options.uncertainty, judging)
    if judging and calibration is None:
        log.info("quality.csv has the agreement alone: --calibration tells what it means")
    if calibration is not None:
        kind = {"members": "seeds"}.get(several.kind, several.kind)
        if calibration.reason:
            log.warning("%s: no intervals: %s", where, calibration.reason)
        elif kind != calibration.kind:
            log.warning(
                "%s: calibrated on the agreement of %s, and here it is of %s: Dice is not predicted",
                where,
                calibration.kind,
                kind,
            )
        for doubt in quality.doubts(calibration, several.members):
            log.warning("%s: %s", where, doubt)
    return several, replace(files, quality=judging, calibration=calibration)


def _checked(
    images: Mapping[str, tuple[Path, ...]], check: Callable[[Path], None]
) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Return the images that look readable and whose labels can be written, and what is wrong with the others.

    Raises InputError where none is left.
    """
    from segstudy.images.unreadable import why_unreadable
    from segstudy.log import log

    good, refused = {}, []
    for name, paths in images.items():
        try:
            for path in paths:
                if reason := why_unreadable(path):
                    raise InputError(f"{path}: {reason}")
            check(paths[0])
            good[name] = paths
        except InputError as error:
            refused.append(str(error))
    if refused and len(images) > 1:
        refused.append(f"{len(refused)} of {len(images)} images were refused before the prediction")
    if not good:
        raise InputError("\n".join(refused))
    for line in refused:
        log.error("%s", line)
    return good, refused


def _listing(structures: dict[str, int], reduced: list[str]) -> str:
    """Return the meaning of the values in the label files, as a table."""
    width = max(len(name) for name in structures)
    rows = [f"{value:>5}  {name:<{width}}" for name, value in structures.items()]
    rows = [
        f"{row}  largest component" if name in reduced else row.rstrip()
        for name, row in zip(structures, rows, strict=True)
    ]
    return "\n".join(["value  structure", *rows])


def _load(options: argparse.Namespace):
    """Load the weights, or the ensemble, onto the device; return both, and what bundles bring besides."""
    import torch

    from segstudy.infer.batch import members_of
    from segstudy.log import log
    from segstudy.networks.bundle import load_members
    from segstudy.networks.device import choose_device, gpu_failures
    from segstudy.study import from_json

    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = load_members(options.weights, options.plugin or ())
    members = loaded.members
    if options.settings is not None:
        # Each by its own type: nnU-Net's networks know other settings than ours.
        texts = _settings_of(options.settings, len(members))
        asked = [
            from_json(type(one.model.infer), text) for one, text in zip(members, texts, strict=True)
        ]
        members = tuple(
            replace(one, model=one.model.model_copy(update={"infer": own}))
            for one, own in zip(members, asked, strict=True)
        )
    trained = members[0]
    if len(members) > 1:
        # By name, so that an edit to it is no change of what single networks predict.
        together = importlib.import_module("segstudy.infer.ensemble")
        trained = together.ensemble(members, loaded.names)
    device = choose_device(options.device or members[0].model.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # windows are all of one size
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    for member in members_of(trained):
        with gpu_failures(
            "the network itself does not fit in; use --device cpu, or a GPU with more"
        ):
            member.network.to(device)
        log.info(
            "%s in %dD, %s, on %s",
            member.model.network,
            member.model.dims,
            ", ".join(trained.structures),
            where,
        )
    if len(members) > 1:
        log.info("an ensemble of %d: their probabilities are averaged", len(members))
    return trained, device, loaded


def _settings_of(text: str, members: int) -> list[str]:
    """Return the settings of each member, of one object for all or a list with one each."""
    given = parse_json(text, "--settings") if text.lstrip().startswith("[") else None
    if given is None:
        return [text] * members
    if len(given) != members:
        raise InputError(
            f"--settings: {len(given)} in the list; expected one for each of {members} weights"
        )
    return [json.dumps(one) for one in given]


def _table(text: str) -> tuple[str, Path, Path | None]:
    """Split DATASET=TABLE[:LABELS] into name, table, folder of labels."""
    name, equals, rest = text.partition("=")
    table, colon, labels = rest.partition(".tsv:")
    if not (name and equals and rest) or not (colon or rest.endswith(".tsv")):
        raise InputError(f"--training-cases {text}: expected DATASET=TABLE.tsv[:LABELS]")
    return name, Path(f"{table}.tsv" if colon else rest), Path(labels) if labels else None


def _structures(text: str, option: str) -> dict[str, int]:
    values = _json(text, option)
    if not values or not all(type(value) is int for value in values.values()):
        raise InputError(f'{option} {text}: expected {{"structure": value, ...}}')
    return values


def _json(text: str, option: str) -> dict:
    value = parse_json(text, option)
    if not isinstance(value, dict):
        raise InputError(f"{option} {text}: expected a JSON object")
    return value
