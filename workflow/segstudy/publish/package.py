"""One zip to put beside a paper: report, figures, tables, methods, licences, checksums."""

import hashlib
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import segstudy
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, write_table, write_text, writing
from segstudy.log import log
from segstudy.publish import provenance
from segstudy.publish.anonymous import anonymised, numbered, renamed
from segstudy.publish.catalogue import CAPTIONS, LAYERS, PICTURES, figures
from segstudy.publish.citations import REFERENCES
from segstudy.publish.methods import methods
from segstudy.publish.report import VIEWER, write_report
from segstudy.publish.results import Results
from segstudy.publish.viewer import write_viewer
from segstudy.yaml_files import read_yaml

CHECKSUMS = "SHA256SUMS"
NEVER = (".nii", ".gz", ".dcm", ".nrrd", ".mha", ".pt", ".log")
TEXTS = (".html", ".js", ".csv", ".tsv", ".md", ".bib", ".yaml", ".json", ".txt", ".svg", "")


def write_package(
    results: Results,
    figure_folder: Path,
    output: Path,
    with_images: bool = False,
    anonymous: bool = False,
) -> None:
    """Write the zip `output`.

    figure_folder: what `segstudy publish figures` drew. with_images: keep the figures that show
    patients. anonymous: numbers for the names of cases and subjects; the key is written beside the
    zip, as `<output>.names.csv`, and figures are drawn anew. Raises InputError where a folder of
    this machine or, if anonymous, a name would be in the zip.
    """
    hidden = [str(results.root.resolve()), str(Path.home())] if Path.home() != Path("/") else []
    with tempfile.TemporaryDirectory(prefix="segstudy-") as temporary:
        top = Path(temporary) / f"{results.study.name}"
        names = None
        if anonymous:
            from segstudy.publish.drawing import draw_all

            names = numbered(results)
            mirror = Path(temporary) / "results"
            results = anonymised(results, names, mirror)
            figure_folder = mirror / "figures"
            draw_all(results, figure_folder)
            hidden.append(str(mirror))
        collect(results, figure_folder, top, with_images, names)
        _check(top, hidden, names)
        write_text(top / CHECKSUMS, checksums(top))
        _zip(top, output)
    if names:
        _write_key(output.with_name(f"{output.name}.names.csv"), names)
    log.info("%s: %.1f MB", output, output.stat().st_size / 1e6)


def collect(results: Results, figure_folder: Path, top: Path, with_images: bool, names) -> None:
    """Put everything that is published into the folder `top`."""
    study = results.study
    captions = read_json(figure_folder / CAPTIONS)
    shown = [one for one in figures(study) if with_images or one.kind not in PICTURES]
    drawn = top / "figures"
    drawn.mkdir(parents=True)
    for figure in shown:
        for file in figure.files:
            if not (figure_folder / file).is_file():
                raise InputError(
                    f"{figure_folder / file}: no such file; run `publish figures` first"
                )
            shutil.copyfile(figure_folder / file, drawn / file)
    write_json(drawn / CAPTIONS, {one.name: captions[one.name] for one in shown})
    # The report looks for the figures beside it, and for the layers, which are not published.
    shutil.copyfile(figure_folder / LAYERS, drawn / LAYERS)
    if with_images:
        write_viewer(results, top / VIEWER)
    write_report(results, drawn, top / "report.html", images=with_images)
    (drawn / LAYERS).unlink()

    tables = top / "tables"
    write_table(tables / "metrics.csv", results.metrics)
    for name in ("summary", "tests", "ranking"):
        path = results.root / "statistics" / f"{name}.csv"
        if path.is_file():
            shutil.copyfile(path, tables / path.name)
    write_table(tables / "splits.csv", results.splits)
    text = "\n\n".join(f"## {heading}\n\n{part}" for heading, part in methods(results))
    cited = list(dict.fromkeys(re.findall(r"\[\[(\w+)\]\]", text)))
    write_text(
        top / "methods.md",
        "# Methods\n\n" + re.sub(r"\[\[(\w+)\]\]", r"[@\1]", text)
        + "\n\nThis text is free to use (CC0 1.0).\n",
    )  # fmt: skip
    write_text(top / "references.bib", "\n\n".join(REFERENCES[key].bibtex for key in cited) + "\n")
    settings = provenance.settings_yaml(study)
    write_text(top / "settings.yaml", renamed(settings, names) if names else settings)
    write_text(top / "LICENCE.md", licences(results))
    write_text(top / "README.md", _readme(results, with_images, names is not None))


def licences(results: Results) -> str:
    """What may be done with the parts of the zip, and what to cite."""
    registry = Path(segstudy.__file__).parents[2] / "resources" / "datasets.yaml"
    known = read_yaml(registry) if registry.is_file() else {}
    lines = [
        "# Licences and citation",
        "",
        "- `methods.md`: CC0 1.0, no rights reserved.",
        "- Made with segstudy "
        + segstudy.__version__
        + " (MIT). Please cite it (CITATION.cff of its"
        " repository) and the works in `references.bib`.",
        "- Figures and tables are the authors' own: say here under which licence you publish them.",
    ]
    for dataset, settings in results.study.datasets.items():
        entry = known.get(getattr(settings.source, "registered", "") or "")
        if settings.source.layout == "phantom":
            lines.append(f"- Data `{dataset}`: simulated, no patient.")
        elif entry:
            lines.append(
                f"- Data `{dataset}`: {entry['title']}, {entry['licence']}. {entry['reference']}"
            )
        else:
            lines.append(f"- Data `{dataset}`: say here where it is from and its licence.")
    return "\n".join(lines) + "\n"


def checksums(folder: Path) -> str:
    """A line a file, as `sha256sum --check` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in _files(folder)
        if path.name != CHECKSUMS
    ]
    return "\n".join(lines) + "\n"


def _readme(results: Results, with_images: bool, anonymous: bool) -> str:
    study = results.study
    return "\n".join(
        [
            f"# {study.title or study.name}",
            "",
            "| file | holds |",
            "|---|---|",
            "| `report.html` | everything to read, in any browser, offline |",
            "| `figures/` | each figure as PNG (300 dpi), SVG and PDF, and the table it was drawn from |",
            "| `tables/` | every measurement, summary, tests, ranking, folds |",
            "| `methods.md`, `references.bib` | the methods text and what it cites |",
            "| `settings.yaml` | every setting of the study, defaults included |",
            "| `LICENCE.md` | licences, and what to cite |",
            f"| `{CHECKSUMS}` | check with `sha256sum --check {CHECKSUMS}` |",
            "",
            "Images of patients are in it." if with_images else "No image of a patient is in it.",
            "Cases have numbers for names." if anonymous else "Cases have their own names.",
            "",
        ]
    )


def _check(top: Path, hidden: list[str], names) -> None:
    """Raise InputError where a file tells what it should not."""
    words = []
    if names:
        ordinary = set(names["cases"].values()) | set(names["subjects"].values())
        words = [
            name
            for name in {*names["cases"], *names["subjects"]} - ordinary
            if len(name) > 3 and not name.isalpha()
        ]
    pattern = re.compile(
        "|".join([re.escape(text) for text in hidden]
                 + [rf"(?<![\w-]){re.escape(word)}(?![\w-])" for word in sorted(words)]) or r"(?!)"
    )  # fmt: skip
    for path in _files(top):
        if path.suffix in NEVER:
            raise InputError(f"{path.name}: a {path.suffix} file is not to be published")
        if path.suffix not in TEXTS:
            continue
        found = pattern.search(path.read_text(encoding="utf-8"))
        if found:
            raise InputError(
                f"{path.relative_to(top)}: holds {found[0]!r}, which must not be published; "
                "look for it in the study file's title and description, and in the case table"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _zip(top: Path, output: Path) -> None:
    """The same files give the same bytes: no times, a fixed order."""
    with (
        writing(output) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        for path in _files(top):
            entry = zipfile.ZipInfo(path.relative_to(top.parent).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def _write_key(path: Path, names) -> None:
    import pandas

    rows = [(kind, old, new) for kind in ("cases", "subjects") for old, new in names[kind].items()]
    table = pandas.DataFrame(rows, columns=["kind", "name", "published_as"])
    write_table(path, table.sort_values(["kind", "published_as"]))
