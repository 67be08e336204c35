"""A page on which readers rate predictions without knowing whose they are: the viewer's, with codes in place of models.

Nothing in its folder names a model or shows a reference; whose predictions they were is in a key beside it.
"""

from pathlib import Path

from segstudy.files import writing_folder
from segstudy.images.checksum import label_checksum
from segstudy.images.files import read_label
from segstudy.log import log, progress
from segstudy.publish.explorer import json_in_page
from segstudy.publish.results import Results
from segstudy.publish.viewer import encoded, write_case, write_page
from segstudy.publish.views import OpenCase, open_case
from segstudy.rating_files import (
    COLUMNS,
    GRADES,
    MEANING,
    Shown,
    code_of,
    drawn,
    letters,
    write_key,
)


def write_rating_page(results: Results, folder: Path, key: Path) -> None:
    """Write the page with a script a case into `folder`, and the table that tells whose predictions these are."""
    study, ratings = results.study, results.study.ratings
    cases = [
        (dataset, case)
        for dataset in study.tested_datasets
        for case in drawn(ratings.seed, dataset, _tested(results, dataset), ratings.cases)
    ]
    found: dict[tuple[str, str], list[Shown]] = {}
    with writing_folder(folder) as temporary:
        for dataset, case in progress(cases, "cases to rate"):
            opened = open_case(results, dataset, case)
            shown = found[dataset, case] = shown_of(opened)
            labels = {one.code: opened.known(opened.prediction(one.model)) for one in shown}
            # The part is that of the viewer, so that a structure which no model found is not cut away.
            around = [opened.label.array, *labels.values()]
            _, volumes = encoded(opened, dict(sorted(labels.items())), around)
            write_case(temporary, dataset, case, volumes)
        codes = {
            "/".join(name): [(letter, one.code, one.prediction) for letter, one in letters(shown)]
            for name, shown in found.items()
        }
        write_page(
            results,
            temporary,
            "rating.html",
            cases=cases,
            maps=[],
            grades=[(grade, MEANING[grade]) for grade in GRADES],
            rated=json_in_page({"study": study.name, "columns": COLUMNS, "codes": codes}),
        )
    write_key(key, [one for shown in found.values() for one in shown])
    log.info("%s: %d cases to rate", folder, len(cases))


def _tested(results: Results, dataset: str) -> list[str]:
    """Return the cases of a dataset that a model has predicted."""
    table = results.metrics
    predicted = (table["dataset"] == dataset) & (table["status"] != "missing_file")
    return sorted(table.loc[predicted, "case"].unique())


def shown_of(opened: OpenCase) -> list[Shown]:
    """Return the predictions of a case that are shown: of each model that has one, that of its first fold and seed."""
    results, dataset = opened.results, opened.dataset
    case, subject = opened.case.case, opened.case.subject
    shown = []
    for model in results.study.models:
        run = results.first_run(dataset, model, case)
        if run is None:
            continue
        label = read_label(results.prediction(model, *run, dataset, case))
        code = code_of(results.study.ratings.seed, dataset, case, model)
        shown.append(Shown(dataset, case, subject, code, model, *run, label_checksum(label)))
    return shown
