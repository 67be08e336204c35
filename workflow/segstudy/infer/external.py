"""Labels from a program of others, run once a case."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from segstudy import finished
from segstudy.errors import InputError
from segstudy.files import make_folder
from segstudy.finished import NOTHING, Finished
from segstudy.images.files import Image, compare_grids, read_grid, read_label, write_label
from segstudy.infer import command_files
from segstudy.infer.prediction_cache import (
    cache_folder,
    cached_files,
    hand_over,
    predict_missing,
)
from segstudy.infer.translate import translated, warn_of_unmet
from segstudy.jobs import code
from segstudy.log import log
from segstudy.study import PLACEHOLDER, ExternalSettings

TOLD_LINES = 5


def predict_fold(
    settings: ExternalSettings,
    tested: Mapping[str, Sequence[Path]],
    structures: Mapping[str, int],
    threads: int,
    output: Path,
    kept: Finished = NOTHING,
) -> None:
    """Run a program on the tested cases of a fold: `output/<case>.nii.gz`.

    A case whose label cannot be made does not stop the others. Finished labels wait in
    `<output>.partial/`, so that an interrupted job goes on where it stopped.

    Parameters
    ----------
    settings
        The program, and the dataset's channels.
    tested
        Case -> its image files.
    structures
        Structure -> value in the labels that are written.
    threads
        Given to the program.
    output
        The folder.
    kept
        Where finished folds are kept; one of the same command, files that it names
        (`command_files`) and images is taken from there.

    Raises
    ------
    InputError
        At the end, for all cases that failed.
    """
    model = settings.model
    if set(structures) != set(model.labels):
        raise InputError(
            f"--structures: {', '.join(structures)}; expected those of the model's labels: "
            f"{', '.join(model.labels)}"
        )
    apart = [output, *(path for paths in tested.values() for path in paths)]
    used = command_files.stamps(model.command, apart)
    key = json.dumps(
        [
            settings.model_copy(update={"model": model.learning()}).model_dump(mode="json"),
            *structures.items(),
            code.digest("infer.external"),
            command_files.contents(used),
        ]
    )
    folder = cache_folder(output, hashlib.sha256(key.encode()).hexdigest()[:16])
    make_folder(folder)
    files = cached_files(folder, tested)
    contents = {case: file.name for case, file in files.items()}
    whole = finished.key("infer", key, contents, threads, finished.versions_of())
    if kept.restore(whole, output, whole=True):
        shutil.rmtree(folder.parent, ignore_errors=True)
        return

    present: set[int] = set()

    def predict(case: str, paths: Sequence[Path]) -> None:
        predicted = run(settings, case, paths, threads, folder)
        label, values = translated(
            predicted.array,
            model.labels,
            model.background_labels,
            structures,
            f"case {case}: {model.command[0]} wrote",
        )
        present.update(values)
        write_label(files[case], label, predicted.affine, like=paths[0])

    predict_missing(tested, files, predict)
    warn_of_unmet(present, model.labels, model.command[0])
    hand_over(files, output)
    if None not in used and command_files.stamps(model.command, apart) == used:
        kept.keep(whole, output)
    elif kept.folder:
        log.warning(
            "not kept for later runs: files that the command names have changed meanwhile, or are too many; "
            "have the program write elsewhere than into a folder that its command names"
        )
    shutil.rmtree(folder.parent)


def run(
    settings: ExternalSettings, case: str, images: Sequence[Path], threads: int, scratch: Path
) -> Image:
    """Run the program on a case.

    The words of the command are given to the program as they are, never to a shell.

    Parameters
    ----------
    settings
        The program, and the dataset's channels.
    case
        Its name.
    images
        One file a channel.
    threads
        Given to the program.
    scratch
        A folder for the files that the program writes.

    Returns
    -------
    Image
        Label map (i, j, k) on the image's grid, with the program's values.

    Raises
    ------
    InputError
        Where the program is missing, fails, takes too long, or writes nothing, no label map, or one
        on another grid.
    """
    names = ["image"] if len(images) == 1 else [f"image_{name}" for name in settings.channels]
    if len(settings.channels) != len(images):
        raise InputError(
            f"{images[0]}: case {case}: all {len(settings.channels)} channels in one file; "
            "trainer: external gives each channel's file to the command, so split it"
        )
    with tempfile.TemporaryDirectory(dir=scratch) as private:
        output = Path(private).resolve() / f"{case}.nii.gz"
        values = dict(zip(names, [str(path.resolve()) for path in images], strict=True))
        values |= {"output": str(output), "threads": str(threads)}
        command = [
            PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in settings.model.command
        ]
        _call(command, case, settings.model.timeout_min)
        if not output.is_file():
            raise InputError(
                f"case {case}: {command[0]} ended without an error, but did not write {{output}}; "
                "see what it calls its output file"
            )
        label = read_label(output)
    difference = compare_grids(read_grid(images[0]), label.grid)
    if difference:
        raise InputError(
            f"case {case}: {command[0]} wrote a label on another grid than its image: {difference}; "
            "have it keep the image's grid (mri_synthseg: --keepgeom)"
        )
    return label


def _call(command: list[str], case: str, timeout_min: float) -> None:
    log.info("case %s: %s", case, " ".join(command))
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60 * timeout_min,
            check=False,
        )
    except OSError as error:
        raise InputError(
            f"case {case}: {command[0]}: {error.strerror or error}; expected a program that can be "
            "run: give its full path, or put its folder on PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError(
            f"case {case}: {command[0]} was stopped after {timeout_min:g} min (timeout_min)"
        ) from None
    if ended.returncode:
        said = ended.stdout.decode(errors="replace").strip().splitlines()[-TOLD_LINES:]
        output = "; it said:\n  " + "\n  ".join(said) if said else " and said nothing"
        raise InputError(f"case {case}: {command[0]} ended with {ended.returncode}{output}")
