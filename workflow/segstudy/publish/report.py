"""One offline file, `report.html`, or a page with a folder where that would be too large: everything a reader of the study wants, first things first."""

import base64
import html
import io
import os
import re
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from segstudy.errors import InputError
from segstudy.files import read_json, write_text, writing_folder
from segstudy.log import duration, log
from segstudy.metric import Metric
from segstudy.publish import (
    cohort,
    human_agreement,
    pages,
    provenance,
    quality,
    ratings,
    redaction,
    rulegraph,
    style,
    subgroups,
    tables,
    verdicts,
)
from segstudy.publish.catalogue import CAPTIONS, LAYERS, PICTURES, Figure, figures
from segstudy.publish.checklist_items import CHECKLISTS
from segstudy.publish.citations import CITED, REFERENCES
from segstudy.publish.corrected import corrections_shown
from segstudy.publish.draw.comparison import CORRECTIONS, significant
from segstudy.publish.explorer import explorer, slice_files
from segstudy.publish.methods import devices, methods
from segstudy.publish.published import published_table
from segstudy.publish.results import Results
from segstudy.publish.words import chosen_metrics, listing, plain
from segstudy.study import EnsembleModel, Study, StudyModel, UntrainedModel
from segstudy.words import confidence, count

PICTURE_PIXELS = 1600
UNBROKEN = 24
"""Signs of a name that a cell of a table keeps on one line."""
PRINTED_MM = (120.0, 118.0)
"""Width of a page-wide figure in the printed report, and the most height of any: two stand on a page."""
VIEWER, REPORTING = "viewer", "reporting"  # folders beside the report
FILES = "report_files"  # likewise, where one file would be larger than this:
MOST_BYTES = 30_000_000


def write_report(
    results: Results,
    folder: Path,
    output: Path,
    images: bool = True,
    most_bytes: int = MOST_BYTES,
    published: bool = False,
    anonymous: bool = False,
) -> None:
    """Write the report.

    Parameters
    ----------
    results
        The results of the study.
    folder
        The figures of the study, which are embedded.
    output
        The file to write.
    images
        False leaves out whatever shows a patient's image.
    most_bytes
        Of the one file; above that the page refers to the figures where they lie, and slices
        through cases go to `report_files/` beside it.
    published
        True tells how many warnings there are in the logs, and not their words.
    anonymous
        True does not tell the commit, which leads to who made it.

    Raises
    ------
    InputError
        Where a table or a figure is missing.
    """
    told = {"published": published, "anonymous": anonymous}
    text = render(results, folder, output, images, **told)
    beside = output.parent / FILES
    embedded = len(text.encode()) <= most_bytes
    if not embedded:
        text = render(results, folder, output, images, embedded=False, **told)
    if images and not embedded:
        with writing_folder(beside) as temporary:
            for name, content in slice_files(_figure_file(folder / LAYERS)):
                write_text(temporary / name, content)
        log.info("%s: slices through cases, since one file would be too large", beside)
    elif beside.is_dir():
        shutil.rmtree(beside)
    write_text(output, text)
    log.info("%s: %.1f MB", output, len(text.encode()) / 1e6)


def render(
    results: Results,
    folder: Path,
    output: Path,
    images: bool = True,
    embedded: bool = True,
    published: bool = False,
    anonymous: bool = False,
) -> str:
    """Render the page as HTML.

    Parameters
    ----------
    results
        The results of the study.
    folder
        Of the figures.
    output
        The file that the page is for.
    images
        Whether patients' images are shown.
    embedded
        False refers to figures and to slices through cases as files.
    published, anonymous
        As of `write_report`.
    """
    study, public = results.study, redaction.redacted(results.study)
    captions, layers = _figure_file(folder / CAPTIONS), _figure_file(folder / LAYERS)
    shown = [
        _figure_values(figure, folder, output, captions, embedded)
        for figure in figures(study)
        if images or figure.kind not in PICTURES
    ]
    by_kind: dict[str, list[dict]] = {}
    for figure in shown:
        by_kind.setdefault(figure["kind"], []).append(figure)
    cited = _Citations()
    text = [(heading, cited.linked(part)) for heading, part in methods(results)]
    look = results.look
    environment = pages.environment()
    environment.filters |= {
        "plain": plain,
        "model": look.model,
        "structure": look.structure,
        "in_text": look.in_text,
        "breakable": breakable,
    }
    environment.filters["stage_text"] = redaction.stage_text
    return environment.get_template("report.html").render(
        reporting=reporting_files(output.parent),
        study=study,
        title=public.title or plain(study.name),
        description=public.description,
        sentence=_sentence(results),
        findings=_findings(results),
        facts=_facts(results),
        learnt_nothing=bool(tables.learnt_nothing(results)),
        main_tables=tables.main_tables(results),
        figures=by_kind,
        table_1=cohort.shown(results, anonymous),
        cohorts=tables.cohort_tables(results),
        corrections=corrections_shown(results),
        repairs=_repairs(results),
        metric_tables=tables.metric_tables(results),
        grids=tables.grid_tables(results),
        tests=tables.test_table(results),
        verdicts=verdicts.shown(results),
        subgroups=subgroups.shown(results, anonymous),
        quality=quality.shown(results),
        ratings=ratings.shown(results),
        published=published_table(results),
        correction=CORRECTIONS[study.statistics.correction],
        level=confidence(study.statistics.alpha),
        layers=layers,
        cases=explorer(results, layers, images, FILES if not embedded else ""),
        embedded=embedded,
        pictures=images,
        viewer=images and (output.parent / VIEWER / "index.html").is_file(),
        look=look,
        colours=look.structure_colours,
        model_colours=look.model_colours,
        methods=text,
        references=cited.references,
        bibtex=_data_address(
            "\n\n".join(reference.bibtex for _, reference in cited.references) + "\n"
        ),
        commit=None if anonymous else provenance.commit(),
        lock=provenance.lock_digest(),
        versions=[*provenance.library_versions(), *provenance.plugins(study)],
        machine=provenance.machine(),
        run_times=provenance.run_times(results.benchmarks()),
        graph=rulegraph.graph(results.benchmarks()),
        total_time=_total(results),
        seeds=provenance.seeds(study, look),
        trained_on=devices(results),
        warnings=redaction.warned(results.warnings(), published),
        raters=results.raters,
        human_agreement_colour=style.BAND,
        settings=redaction.settings_yaml(results.whole_study),
        style=Markup(_package_file("report.css")),
        script=Markup(_package_file("report.js")),
    )


def reporting_files(beside: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """List the files for reviewers beside a report: what they are, and the name and address of each."""
    kinds = {
        "Checklists": [
            (
                f"{one.title}{f' ({suffix.upper()})' if suffix != 'html' else ''}",
                f"checklists/{one.name}.{suffix}",
            )
            for one in CHECKLISTS
            for suffix in ("html", "md", "csv")
        ],
        "Model cards": [
            (path.parent.name, path.relative_to(beside / REPORTING).as_posix())
            for path in sorted((beside / REPORTING).glob("model_cards/*/README.md"))
        ],
        "Methods text": [
            (name, name) for name in ("methods.md", "methods.tex", "methods.html", "references.bib")
        ],
        "Tables for a paper": [
            (path.name, f"tables/{path.name}")
            for path in sorted((beside / REPORTING).glob("tables/*"))
        ],
    }
    found = {
        kind: [
            (name, f"{REPORTING}/{place}")
            for name, place in files
            if (beside / REPORTING / place).is_file()
        ]
        for kind, files in kinds.items()
    }
    return [(kind, files) for kind, files in found.items() if files]


def _package_file(name: str) -> str:
    return resources.files("segstudy.publish").joinpath(name).read_text(encoding="utf-8")


def _figure_file(path: Path):
    if not path.is_file():
        raise InputError(f"{path}: no such file; `segstudy publish figures` makes it: run it first")
    return read_json(path)


def _figure_values(
    figure: Figure, folder: Path, output: Path, captions: dict, embedded: bool
) -> dict:
    """Return a figure as the template shows it: pictures as WebP, everything drawn in lines as SVG.

    Not embedded: the file of the figures' own folder, pictures as PNG.
    """
    for file in figure.files:
        if not (folder / file).is_file():
            raise InputError(
                f"{folder / file}: no such file; `segstudy publish figures` makes it: run it first"
            )
    words = captions.get(figure.name)
    if words is None:
        raise InputError(
            f"{folder / CAPTIONS}: nothing about {figure.name}; draw the figures again"
        )
    where = os.path.relpath(folder, output.parent)
    if not embedded:
        suffix = "png" if figure.kind in PICTURES else "svg"
        source = Path(where, f"{figure.name}.{suffix}").as_posix()
    elif figure.kind in PICTURES:
        source = _webp(folder / f"{figure.name}.png")
    else:
        content = (folder / f"{figure.name}.svg").read_bytes()
        source = "data:image/svg+xml;base64," + base64.b64encode(content).decode()
    return {
        "name": figure.name,
        "kind": figure.kind,
        "dataset": figure.dataset,
        "metric": figure.metric.name if figure.metric else "",
        "model": figure.model,
        "rank": figure.rank,
        "source": source,
        **words,
        "number": figure.number,
        "print_width_mm": _print_width_mm(words["width_mm"], words["height_mm"]),
        "files": [
            (file.rsplit(".", 1)[-1].upper(), Path(where, file).as_posix()) for file in figure.files
        ],
    }


def _print_width_mm(width_mm: float, height_mm: float) -> float:
    """Return the width of a figure in the printed report, which leaves room for its words beside it."""
    return width_mm * min(PRINTED_MM[0] / max(width_mm, 170.0), PRINTED_MM[1] / height_mm)


def _webp(path: Path) -> str:
    from PIL import Image

    image = Image.open(path).convert("RGB")
    image.thumbnail((PICTURE_PIXELS, 3 * PICTURE_PIXELS), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _data_address(text: str) -> str:
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()


def breakable(text: object) -> Markup:
    """Escape a cell's text, and allow a break after each `UNBROKEN` signs without a space.

    One cell that cannot be broken makes its table wider than the page, for which a browser prints all smaller.
    """
    parts = re.sub(rf"\S{{{UNBROKEN}}}(?=\S)", "\\g<0>\0", str(text)).split("\0")
    return Markup("<wbr>").join(map(escape, parts))


class _Citations:
    """Numbers citations in the order in which they are first met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def linked(self, text: str) -> Markup:
        """Write a text with `[[key]]` as links to the list of references."""
        return Markup(CITED.sub(self._link, html.escape(text, quote=False)))

    def _link(self, match: re.Match) -> str:
        number = self._numbers.setdefault(match[1], len(self._numbers) + 1)
        return f'<a class="cite" href="#ref-{match[1]}">[{number}]</a>'

    @property
    def references(self) -> list[tuple[int, object]]:
        return [(number, REFERENCES[key]) for key, number in self._numbers.items()]


# --- first screen -------------------------------------------------------------------------------


def _sentence(results: Results) -> str:
    """Write the study in a sentence."""
    study = results.study
    cases = {dataset: len(results.cases(dataset)) for dataset in study.datasets}
    tested = _tested(results)
    look = results.look
    structures = [look.in_text(name) for name in look.structures]
    structures_text = (
        listing(structures) if len(structures) <= 6 else f"{count(len(structures), 'structure')}"
    )
    test_only = {name for name in study.tested_datasets if study.datasets[name].role == "test"}
    if not study.cross_validated_datasets:
        test_only = set()  # then that goes without saying
    kinds = {
        name: f"{study.modality} image" if dataset.has_images else "label map"
        for name, dataset in study.datasets.items()
    }
    data = listing(
        [
            f"{count(cases[dataset], kinds[dataset])} of {dataset}"
            + (" (test only)" if dataset in test_only else "")
            + (f" ({tested[dataset]} of them tested)" if tested[dataset] < cases[dataset] else "")
            for dataset in study.tested_datasets
        ]
    )
    maps = [
        f"{count(cases[name], 'label map')} of {name}"
        for name in study.datasets
        if name not in study.tested_datasets and not study.datasets[name].has_images
    ]
    further = [
        f"{count(cases[name], kinds[name])} of {name}"
        for name in study.datasets
        if name not in study.tested_datasets and study.datasets[name].has_images
    ]
    models = count(len(study.models), "model")
    if len(study.models) <= 6:
        models += f" ({listing([look.model(name) for name in look.models])})"
    verb = "were compared" if len(study.models) > 1 else "was tested"
    whole = len(study.folds) == study.splits.folds
    folds = "" if whole else f"{count(len(study.folds), 'fold')} of "
    leak = (
        " THE SPLIT LEAKS, as the study asks for: models are tested on subjects that they were trained on."
        if study.splits.group_by == "case_though_it_leaks"
        else ""
    )
    design_text = f"by {folds}{study.splits.folds}-fold cross-validation"
    if study.splits.folds == 1:
        design_text = "on the test cases of a fixed split"
    if not study.trains:
        design_text = _of_untrained(study)
    elif not study.cross_validated_datasets:
        alone = "" if further else ", without an image"
        design_text = f"after training on {listing([*further, *maps])}{alone}"
    else:
        if maps:
            design_text += f"; {listing(maps)}, without images, were trained on too"
        if further:
            design_text += f"; {listing(further)} were trained on too"
    blind = [look.model(name) for name in study.side_blind_models]
    sides = (
        f" {listing(blind)} WAS TAUGHT TO MIX UP LEFT AND RIGHT, as the study asks for (mirror: all): images "
        "were mirrored, and the labels of sides were not."
        if blind
        else ""
    )
    quick = (
        f" {study.in_brief.replace('for a first look only', 'FOR A FIRST LOOK ONLY')}."
        if study.quick
        else ""
    )
    chosen = [
        name for name in look.models if getattr(study.models[name], "chosen_on_tested", False)
    ]
    sides += (
        f" OF {listing([look.model(name) for name in chosen])}, SOMETHING WAS CHOSEN ON THE TESTED CASES, such as the "
        "post-processing: better than on new cases."
        if chosen
        else ""
    )
    partial = f" NOT ALL IS DONE: {'; '.join(study.partial)}." if study.partial else ""
    return (
        f"{models} {verb} in segmenting {structures_text} on {data}, {design_text}."
        f"{partial}{quick}{leak}{sides}"
    )


def _of_untrained(study: Study) -> str:
    """Say how models came about that were not trained here."""
    if study.needs_images:
        return "as programs or predictions of others, not trained here"
    if any("{fold}" in model.files for model in study.models.values()):
        folds = count(len(study.folds), "fold")
        return f"by predictions that were there before, of {folds} of a cross-validation"
    return "by predictions that were there before"


def _tested(results: Results) -> dict[str, int]:
    """Count the cases of each dataset that a model of the study was tested on."""
    counts = results.metrics.groupby("dataset")["case"].nunique()
    return {name: int(counts.get(name, 0)) for name in results.study.tested_datasets}


def _facts(results: Results) -> list[tuple[str, str]]:
    """Return the numbers a reader looks for first, each with the word that it counts."""
    study = results.study
    cases = sum(len(results.cases(dataset)) for dataset in study.tested_datasets)
    maps = sum(len(results.cases(name)) for name in study.datasets) - cases
    tested = sum(_tested(results).values())
    facts = [
        (str(cases), "case" if cases == 1 else "cases"),
        *([(str(tested), "of them tested")] if tested < cases else []),
        *([(str(maps), "label map only" if maps == 1 else "label maps only")] if maps else []),
        (str(len(study.structures)), "structure" if len(study.structures) == 1 else "structures"),
        (str(len(study.models)), "model" if len(study.models) == 1 else "models"),
        *(
            [(f"{len(study.folds)}", "fold" if len(study.folds) == 1 else "folds")]
            if study.cross_validated_datasets or study.trains
            else []
        ),
    ]
    for dataset, settings in study.datasets.items():
        if settings.repair:
            moved, structure = results.transform(dataset), settings.repair.structure
            if moved["reference_case"]:
                change = f"{moved['iou_before']:.2f} → {moved['iou_after']:.2f}"
                facts.append((change, f"IoU of the repaired {results.look.in_text(structure)}"))
            else:
                verdicts = results.verdicts(dataset)["verdict"]
                number = int((verdicts == "repaired").sum())
                facts.append(
                    (
                        f"{number} of {len(verdicts)}",
                        f"labels of the {results.look.in_text(structure)} repaired",
                    )
                )
    return facts


def _findings(results: Results) -> list[str]:
    """Write the findings, in sentences that the tables bear out."""
    study, look, nothing = results.study, results.look, tables.learnt_nothing(results)
    sentences = [
        f"WARNING: {look.model(model)} has learnt next to nothing: its mean Dice over all structures and subjects is "
        f"{dice:.3f}. It is no competitor; look at {_suspects(study.models[model])}."
        for model, dice in nothing.items()
    ]
    sentences += human_agreement.findings(results, chosen_metrics(study.publish.metrics, study)[:2])
    if len(study.models) < 2:
        return sentences
    for dataset in study.tested_datasets:
        for shown_metric in chosen_metrics(study.publish.metrics, study)[:2]:
            name = shown_metric.name
            leading: dict[str, list[str]] = {}
            for structure in study.structures:
                for model in tables.best_models(results, dataset, structure, name):
                    leading.setdefault(model, []).append(structure)
            if not leading:
                continue
            ordered = sorted(leading.items(), key=lambda pair: -len(pair[1]))
            where = f" on {dataset}" if len(study.tested_datasets) > 1 else ""
            text = (
                f"{_best_mean(shown_metric)}{where}: "
                f"{listing([f'{look.model(model)} in {len(names)}' for model, names in ordered])} of "
                f"{count(len(study.structures), 'structure')}"
            )
            compared, wins = _compared(results, dataset, name, leading)
            if compared:
                text += (
                    f"; {wins} of {count(compared, 'comparison')} with the best model "
                    f"{'is' if wins == 1 else 'are'} significant "
                    f"({CORRECTIONS[study.statistics.correction]} ≤ {study.statistics.alpha:g})"
                )
            else:
                text += "; this metric was not tested"
            text += "."
            sentences.append(text)
    sentences += _missing(results)
    sentences += _missed(results)
    return sentences


def _best_mean(shown_metric: Metric) -> str:
    """Say what mean models are ordered by."""
    if shown_metric.direction == "zero":
        return f"Smallest mean size of {shown_metric.title}"
    return f"Best mean {shown_metric.title}"


def _suspects(model: StudyModel) -> str:
    """Name what to look at where a model is next to nothing."""
    if isinstance(model, EnsembleModel):
        return "its members"
    if isinstance(model, UntrainedModel):
        return "the values of its labels, and at which way its images lie"
    return "its loss, its learning rate and the labels' values"


def _missed(results: Results) -> list[str]:
    """Write a sentence on subjects of which a model missed a structure altogether, each counted once."""
    look, values = results.look, results.all_values
    infinite = values[
        (values["metric"] == "hd95_mm")
        & np.isinf(values["value"])
        & ~values["missing"].astype(bool)
        & values["structure"].isin(results.study.structures)
    ].drop_duplicates(["dataset", "subject", "model"])
    missed = len(infinite.drop_duplicates(["dataset", "subject"]))
    if not missed:
        return []
    worst = infinite["model"].value_counts()
    named = [f"{look.model(model)} {worst[model]}" for model in look.models if model in worst]
    return [
        f"{count(missed, 'subject')} {'has' if missed == 1 else 'have'} an infinite distance, "
        f"since a structure was missed altogether ({', '.join(named)})."
    ]


def _missing(results: Results) -> list[str]:
    """Write a sentence on missing predictions, and one on structures found where there are none."""
    taken = {"worst": "count as the worst value", "exclude": "are left out of the comparisons"}
    look, sentences, summary = results.look, [], results.summary
    lacking = summary.groupby(["dataset", "model"], sort=False)["n_missing"].max()
    if lacking.sum():
        named = [
            f"{look.model(model)} {lacking[dataset, model]} on {dataset}"
            for dataset in results.study.tested_datasets
            for model in look.models
            if lacking.get((dataset, model))
        ]
        sentences.append(
            f"Missing predictions {taken[results.study.statistics.missing]}: {listing(named)}."
        )
    absent = results.false_positives
    for (dataset, structure), rows in absent[absent["metric"] == "false_positive_cases"].groupby(
        ["dataset", "structure"], sort=False
    ):
        means = rows.set_index("model")["mean"]
        rates = [f"{look.model(name)} {means[name]:.0%}" for name in look.models if name in means]
        number = count(int(rows["n_cases"].max()), "case")
        sentences.append(
            f"{number} of {dataset} {'is' if number == '1 case' else 'are'} without {look.in_text(structure)} and "
            f"stand outside its comparisons; false positives there: {listing(rates)}."
        )
    return sentences


def _compared(
    results: Results, dataset: str, name: str, leading: dict[str, list[str]]
) -> tuple[int, int]:
    """Count the tests of a structure's best model against another, and the significant ones."""
    table = results.tests
    table = table[(table["dataset"] == dataset) & (table["metric"] == name) & (table["test"] != "")]
    table = table[table["structure"].isin(results.study.structures)]
    best = [
        row["structure"] in leading.get(row["model_a"], ())
        or row["structure"] in leading.get(row["model_b"], ())
        for _, row in table.iterrows()
    ]
    table = table.loc[best]  # without tests, an empty list, which [] would take for columns
    return len(table), int(significant(table).sum())


# --- repair -------------------------------------------------------------------------------------


def _repairs(results: Results) -> list[dict]:
    """Describe the label repair of each dataset that has one."""
    repairs = []
    for dataset, settings in results.study.datasets.items():
        if not settings.repair:
            continue
        attempts, verdicts = results.attempts(dataset), results.verdicts(dataset)
        attempts = attempts.merge(results.attempt_seconds(dataset), how="left")
        order = {"review": 0, "left": 1, "repaired": 2}
        verdicts = verdicts.sort_values(
            "verdict", key=lambda column: column.map(order).fillna(-1), kind="stable"
        )
        columns = [
            name for name in verdicts.columns if name not in ("case", "verdict", "remark", "label")
        ]
        columns = [name for name in columns if verdicts[name].fillna(0).any()]
        repairs.append(
            {
                "dataset": dataset,
                "structure": settings.repair.structure,
                "transform": results.transform(dataset),
                "attempts": [_attempt(row) for _, row in attempts.iterrows()],
                "counts": verdicts["verdict"].value_counts().to_dict(),
                "remarks": dict(zip(verdicts["case"], verdicts["remark"].map(_words), strict=True)),
                "columns": [plain(name) for name in columns],
                "verdicts": [
                    {
                        "case": row["case"],
                        "verdict": row["verdict"],
                        "remark": _words(row.get("remark")),
                        "cells": [_evidence(row[name]) for name in columns],
                    }
                    for _, row in verdicts.iterrows()
                ],
            }
        )
    return repairs


def _attempt(row) -> dict:
    numbers = {
        key: tables.Cell(
            tables.number(tables._number(row.get(key)), digits), tables._number(row.get(key))
        )
        for key, digits in (
            ("iou_before", 4),
            ("iou_after", 4),
            ("iou_replayed", 4),
            ("angle_deg", 2),
            ("seconds", 1),
        )
    }
    return {
        "method": row["method"],
        "chosen": str(row.get("chosen")).lower() == "true",
        "reason": _words(row.get("reason")),
        **numbers,
    }


def _words(value) -> str:
    return redaction.stage_text(value)


def _evidence(value) -> tables.Cell:
    try:
        measure = float(value)
    except (TypeError, ValueError):
        return tables.Cell(str(value))
    whole = measure == int(measure) if measure == measure and abs(measure) < 1e15 else False
    return tables.Cell(
        "–" if measure != measure else f"{measure:.0f}" if whole else f"{measure:.3g}", measure
    )


def _total(results: Results) -> str:
    benchmarks = results.benchmarks()
    return duration(float(benchmarks["s"].sum())) if len(benchmarks) else ""
