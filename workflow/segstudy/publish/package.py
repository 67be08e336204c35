"""One zip to put beside a paper: report, figures, tables, methods, licences, checksums."""

import hashlib
import platform
import re
import shutil
import tempfile
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import segstudy
from segstudy.cases import JOINED, SEED, Split
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, write_table, write_text, writing
from segstudy.folds import of_subjects, unit, write_folds
from segstudy.images.names import stem
from segstudy.log import log
from segstudy.package_files import (
    CHECKSUMS,
    CITATION,
    CRATE,
    FOLDS,
    LOCK,
    PLUGINS,
    RECORD,
    RESOLVED,
    SETTINGS,
)
from segstudy.publish import crate, rerun
from segstudy.publish.anonymous import anonymised, numbered
from segstudy.publish.catalogue import CAPTIONS, LAYERS, PICTURES, figures
from segstudy.publish.citations import REFERENCES
from segstudy.publish.cohort import cohort_columns
from segstudy.publish.leaks import Leaks, Sought, check
from segstudy.publish.methods_files import write_methods
from segstudy.publish.package_tables import TABLES, input_tables, write_tables
from segstudy.publish.redaction import (
    redacted,
    registered,
    registered_name,
    registry,
)
from segstudy.publish.report import REPORTING, VIEWER, write_report
from segstudy.publish.reporting import write_reporting
from segstudy.publish.results import Results
from segstudy.publish.settings_file import write_resolved, write_settings
from segstudy.publish.viewer import write_viewer
from segstudy.publish.words import markdown
from segstudy.study import PredictionsModel, Study, published_words

WITH_IMAGES, ANONYMOUS = "--with-images", "--anonymous"
KEY = ("kind", "name", "published_as")
"""Columns of the key of new names, beside an anonymous zip."""
_PATH = re.compile(
    r"(?<![\w./:])(?!(?<=<)/[A-Za-z][\w-]*\s*>)(/[\w.][^\s/]*(/|\s[^\s/]*/)|//\w|~/|\.\./|\\\\\w|[A-Za-z]:[\\/]|file:|\w+://[^/\s]*@)\S*"
)
"""Paths that the author's words may not hold: an absolute path, one from a home, of Windows, an address with a login; the end of
an element (`</b>`) is none."""


def write_package(
    results: Results,
    figure_folder: Path,
    output: Path,
    with_images: bool = False,
    anonymous: bool = False,
    study_file: Path | None = None,
) -> None:
    """Write the zip `output`.

    Parameters
    ----------
    results
        The results of the study.
    figure_folder
        Of `segstudy publish figures`.
    output
        The zip.
    with_images
        Whether figures that show patients are kept.
    anonymous
        Whether cases and subjects get numbers for names; the key is then written beside the
        zip, as `<output>.names.csv`, and figures are drawn anew.
    study_file
        The study file that the user wrote. Without it the zip has every setting in its place.

    Raises
    ------
    InputError
        With the file and the place, where a folder of the study's paths or, if anonymous, a
        name would be in the zip; and where the study file is not that of the results.
    """
    names = numbered(results) if anonymous else None
    leaks, times = sought(results, names), crate.recorded_times(results, to_the_day=anonymous)
    if leaks.too_ordinary:
        log.warning(
            "names that are ordinary words, which are replaced, but not looked for in the zip: %s",
            ", ".join(leaks.too_ordinary),
        )
    with tempfile.TemporaryDirectory(prefix="segstudy-") as temporary:
        top = Path(temporary) / f"{results.study.name}"
        if names:
            from segstudy.publish.drawing import draw_all

            mirror = Path(temporary) / "results"
            results = anonymised(results, names, leaks, mirror)
            figure_folder = mirror / "figures"
        _check_words(results.whole_study, leaks)
        if names:
            draw_all(results, figure_folder)
        origin = rerun.code(anonymous)
        collect(results, figure_folder, top, with_images, anonymous, origin)
        asked = {WITH_IMAGES: with_images, ANONYMOUS: anonymous}
        options = [option for option, is_asked in asked.items() if is_asked]
        add_rerun(results, top, study_file, options, origin, leaks, names)
        # Whoever guesses the names in a table could tell by its checksum that they are right.
        run = crate.run_of(results, origin, times, {} if names else input_tables(results))
        write_json(top / CRATE, crate.crate(top, run, CONTENTS))
        check(top, leaks, _public_texts(results, origin), _of_others())
        write_text(top / CHECKSUMS, checksums(top))
        _zip(top, output)
    if names:
        _write_key(output.with_name(f"{output.name}.names.csv"), names)
    log.info("%s: %.1f MB", output, output.stat().st_size / 1e6)


def sought(results: Results, names: Mapping[str, Mapping[str, str]] | None) -> Leaks:
    """Collect the texts that must not be in the zip: parts of the study's paths and, where cases get new names, the old ones."""
    study, paths, files = results.whole_study, [results.root.resolve(), Path.home(), Path.cwd()], []
    published = [study.name, *study.models, *study.preprocess, *study.grids, *study.channels]
    published += [*study.structures, *study.composite_regions, *study.datasets]
    case_names, places = set(), set()
    for dataset, settings in study.datasets.items():
        source = settings.source
        published += published_words(source)
        for path in (getattr(source, "path", None), settings.participants):
            if path:
                paths += [Path(path), Path(path).absolute()]
        url = getattr(source, "url", None)
        is_public = url == getattr(redacted(study).datasets[dataset].source, "url", None)
        address = urllib.parse.urlsplit(url if url and not is_public else "")
        places |= {address.username, address.password, address.hostname} - {None}
        paths.append(Path(urllib.parse.unquote(address.path)))
        cases = results.cases(dataset)
        case_names |= {name for case in cases for name in (case.case, case.subject)}
        files += [file for case in cases for file in case.files]
        problems = results.problems(dataset)
        case_names |= set(problems["case"]) - {""}
        files += [Path(file) for file in problems["file"] if file]
    for model in study.models.values():
        for word in getattr(model, "command", ())[1:]:
            paths += [Path(part) for part in re.split("[=,:]", word) if "/" in part]
        if isinstance(model, PredictionsModel):
            given = [model.files.partition("{")[0].rpartition("/")[0], model.training_splits]
            paths += [
                path for text in given if text for path in (Path(text), Path(text).absolute())
            ]
    if not names:
        # Names of groups are published on purpose, as an author writes them; one that is a subject's is not to be.
        shown = set(cohort_columns(results))
        published += sorted(
            shown
            | {
                value
                for dataset in study.datasets
                for cells in results.participants(dataset).values()
                for column, value in cells.items()
                if column in shown and value
            }
        )
    published += (
        [new for kind in names.values() for new in kind.values()] if names else sorted(case_names)
    )
    folders = {part for path in (*paths, *(file.parent for file in files)) for part in path.parts}
    folders |= {stem(file) for file in (*files, *paths)} | places | {platform.node()}
    return Leaks(
        names=[Sought(name, "the name") for name in sorted(case_names)] if names else [],
        folders=[Sought(name, "a part of the study's paths,", True) for name in sorted(folders)],
        labels=[study.name, *study.datasets, *study.models],
        new=[new for kind in names.values() for new in kind.values()] if names else [],
        paths=[
            Sought(str(path), "the path")
            for path in sorted(
                {path for path in paths if path.is_absolute() and len(path.parts) > 2}
            )
        ],
        published=published,
    )


def _check_words(study: Study, leaks: Leaks) -> None:
    """Refuse the author's own words where they tell a name or a folder, or any path."""
    for label in leaks.labels:
        if hit := leaks.told_by(label):
            raise InputError(
                f"the study file: {label!r} is published as the name of the study, a dataset or a model, and "
                f"tells {hit.what} {hit.text!r} of a case or subject; give it another name (a study without "
                "`name` has that of its file)"
            )
    public = redacted(study)
    words = [(key, getattr(public, key)) for key in ("title", "description")]
    for key, text in [*words, *public.reporting.texts()]:
        hit = leaks.find_in_words(text)
        if hit:
            raise InputError(
                f"{key} of the study file: tells {hit[0].what} {hit[0].text!r}: \u201c{hit[1]}\u201d; say it "
                "without"
            )
        path = _PATH.search(text)
        if path:
            raise InputError(
                f"{key} of the study file: a path or an address with a name in it: {path[0]!r}; say it "
                "without: others cannot follow it, and it may tell more than it should"
            )


def _of_others() -> list[bytes]:
    """Return the files of NiiVue and the rules, which are published as they are."""
    folder = resources.files("segstudy.publish").joinpath("niivue")
    niivue = [folder.joinpath(name).read_bytes() for name in ("niivue.umd.js", "LICENSE")]
    return [*niivue, *(path.read_bytes() for path in crate.workflow_files())]


def collect(
    results: Results,
    figure_folder: Path,
    top: Path,
    with_images: bool,
    anonymous: bool,
    origin: rerun.Code,
) -> None:
    """Put what is published of the results into a folder.

    Parameters
    ----------
    results
        The results of the study.
    figure_folder
        Of `segstudy publish figures`.
    top
        The folder to fill.
    with_images
        Whether figures that show patients are kept.
    anonymous
        Whether cases have numbers for names.
    origin
        The segstudy that runs.
    """
    study = results.study
    captions = read_json(figure_folder / CAPTIONS)
    shown = [
        figure_shown
        for figure_shown in figures(study)
        if with_images or figure_shown.kind not in PICTURES
    ]
    drawn = top / "figures"
    drawn.mkdir(parents=True)
    for figure in shown:
        for file in figure.files:
            if not (figure_folder / file).is_file():
                raise InputError(
                    f"{figure_folder / file}: no such file; run `publish figures` first"
                )
            shutil.copyfile(figure_folder / file, drawn / file)
    write_json(
        drawn / CAPTIONS, {figure_shown.name: captions[figure_shown.name] for figure_shown in shown}
    )
    # The report looks for the figures beside it, and for the layers, which are not published.
    shutil.copyfile(figure_folder / LAYERS, drawn / LAYERS)
    if with_images:
        write_viewer(results, top / VIEWER)
    write_reporting(results, top / REPORTING, with_methods=False, anonymous=anonymous)
    write_report(
        results, drawn, top / "report.html", with_images, published=True, anonymous=anonymous
    )
    (drawn / LAYERS).unlink()

    write_tables(results, top / "tables", anonymous)
    crate.copy_workflow(top)
    write_methods(results, top, origin)
    write_text(top / "LICENCE.md", licences(results))


def licences(results: Results) -> str:
    """Write the licences of the parts of the zip, and the works to cite."""
    lines = [
        "# Licences and citation",
        "",
        "- `methods.md`, `methods.tex`, `methods.html`: CC0 1.0, no rights reserved.",
        f"- Made with segstudy {segstudy.__version__} (MIT), of which `workflow/` is a part. Please cite it (`{CITATION}`) and the works in "
        "`references.bib`.",
        "- Figures and tables are the authors' own: say here under which licence you publish them.",
    ]
    known = registry()
    for dataset, settings in results.study.datasets.items():
        name = registered_name(settings.source, known)
        if settings.source.layout == "phantom":
            lines.append(f"- Data `{dataset}`: simulated, no patient.")
        elif name:
            lines.append(f"- Data `{dataset}`: {_of_registry(known[name])}")
        else:
            lines.append(f"- Data `{dataset}`: say here where it is from and its licence.")
    return "\n".join(lines) + "\n"


def _of_registry(entry: Mapping[str, Any]) -> str:
    """Say licence, reference and origin of data as the registry has them."""
    checksum = next((f"{key} {entry[key]}" for key in ("sha256", "md5") if key in entry), "")
    origin = f"Fetched from {entry['url']} ({checksum})." if "url" in entry else entry["obtain"]
    return f"{entry['title']}. Licence: {entry['licence']}. {entry['reference']}. {origin}"


def _public_texts(results: Results, origin: rerun.Code) -> list[str]:
    """List texts by others that stand in the zip, and may hold a word that is a folder here too."""
    texts = [
        text
        for reference in REFERENCES.values()
        for text in (reference.text, reference.bibtex, reference.link)
    ]
    entries = registered(results.study)
    texts += [_of_registry(entry) for entry in entries.values()]
    texts += [rerun.bibliography(["segstudy"], results.study, origin)]
    texts += [origin.address, rerun.lock(results)]
    return [text for text in [*texts, *REFERENCES, *entries] if text]


def checksums(folder: Path) -> str:
    """Write a line a file, as `sha256sum --check` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in _files(folder)
        if path.name != CHECKSUMS
    ]
    return "\n".join(lines) + "\n"


def add_rerun(
    results: Results,
    top: Path,
    study_file: Path | None,
    options: Sequence[str],
    origin: rerun.Code,
    leaks: Leaks,
    names: Mapping[str, Mapping[str, str]] | None,
) -> None:
    """Put what a rerun needs into the folder: settings, folds, versions, code, and how to go about it.

    Parameters
    ----------
    results
        The results of the study, under new names where there are such.
    top
        The folder, filled by `collect`.
    study_file
        The study file that the user wrote, where it is known.
    options
        Of `segstudy publish package`.
    origin
        The segstudy that runs.
    leaks
        The texts that must not be told in a remark of the study file.
    names
        The new names; None where cases have their own.
    """
    study = results.whole_study

    def tells(text: str) -> bool:
        return bool(_PATH.search(text) or leaks.find(text))

    gaps = write_settings(top / SETTINGS, study, study_file, tells, names)
    write_resolved(top / RESOLVED, study, top / SETTINGS)
    if not names:  # Under other names the folds of a rerun cannot be told.
        rows = [Split(**row) for row in results.splits.to_dict("records")]
        folds = of_subjects(rows, study.splits)
        origins = {unit(row, study.splits): row.origin for row in rows if row.origin}
        dealt = all(origins.get(subject) in (SEED, JOINED) for subject in folds)
        write_folds(top / FOLDS, folds, study.splits if dealt else None, origins)
    write_text(top / LOCK, rerun.lock(results))
    write_text(top / CITATION, rerun.citation(origin))
    commands = rerun.commands(results, origin, gaps)
    write_json(top / RECORD, rerun.record(results, origin, commands, gaps, options))
    words = rerun.in_words(origin, commands, gaps, options)
    write_text(top / "README.md", _readme(study, top, options, words))


CONTENTS = {
    "report.html": "everything to read, in any browser, offline",
    "figures/": "each figure as PNG (300 dpi), SVG and PDF, and the table it was drawn from",
    "viewer/": "chosen cases in 3D; open `viewer/index.html`",
    f"{REPORTING}/": "for reviewers: checklists, model cards, tables for a paper",
    "methods.md": "the methods text",
    "methods.tex": "the same for LaTeX, with `references.bib`",
    "methods.html": "the same for Word or LibreOffice, which open it",
    "references.bib": "what it cites, and segstudy",
    CITATION: "how to cite segstudy",
    "LICENCE.md": "licences, and what to cite",
    SETTINGS: "the study file, to run it again",
    FOLDS: "each subject's fold, which a rerun takes from there",
    f"{PLUGINS}/": "code of the study's own parts, which `settings.yaml` names",
    RESOLVED: "every setting, defaults included",
    LOCK: "the versions that ran",
    RECORD: "code, versions, seeds and commands",
    f"{crate.WORKFLOW}/": "the rules that ran (MIT licence), to be read: a rerun takes those of segstudy",
    **{f"tables/{name}": holds for name, holds in TABLES.items()},
}
"""File or folder of the zip -> what it holds."""


def _readme(study: Study, top: Path, options: Sequence[str], again: str) -> str:
    # Code of several folders lies in `plugins`, `plugins_2` and so on.
    folders = [f"{folder.name}/" for folder in sorted(top.glob(f"{PLUGINS}*/"))]
    there = [
        f"| `{part}` | {holds} |"
        for name, holds in CONTENTS.items()
        for part in (folders if name == f"{PLUGINS}/" else [name])
        if (top / part).exists()
    ]
    return "\n".join(
        [
            f"# {markdown(redacted(study).title or study.name)}",
            "",
            "| file | holds |",
            "|---|---|",
            *there,
            f"| `{CRATE}` | what each file is and which run made it, for programs (Workflow Run RO-Crate) |",
            f"| `{CHECKSUMS}` | check with `sha256sum --check {CHECKSUMS}` |",
            "",
            "Images of patients are in it." if WITH_IMAGES in options else "No image of a patient is in it.",
            "Cases have numbers for names." if ANONYMOUS in options else "Cases have their own names.",
            *(["The study's own code is without comments and docstrings."] if folders and ANONYMOUS in options else []),
            *([f"Not all of the study is done: {'; '.join(study.partial)}."] if study.partial else []),
            "",
            again,
            "",
        ]
    )  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _zip(top: Path, output: Path) -> None:
    """Zip a folder so that the same files give the same bytes: no times, a fixed order."""
    with (
        writing(output) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        # Folders have entries of their own, and no folder is around them all: so an RO-Crate is read from its zip.
        for path in sorted(top.rglob("*")):
            name = f"{path.relative_to(top).as_posix()}{'/' * path.is_dir()}"
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o40755 << 16 | 0x10) if path.is_dir() else 0o644 << 16
            archive.writestr(entry, b"" if path.is_dir() else path.read_bytes())


def _write_key(path: Path, names) -> None:
    import pandas

    rows = [(kind, old, new) for kind in ("cases", "subjects") for old, new in names[kind].items()]
    table = pandas.DataFrame(rows, columns=list(KEY))
    write_table(path, table.sort_values(["kind", "published_as"]))
