"""What reviewers ask for, in a folder beside the report: checklists filled from what ran, model cards, methods text, tables."""

from pathlib import Path

from segstudy.files import writing_folder
from segstudy.log import log
from segstudy.publish import checklists, model_cards, paper_tables, rerun
from segstudy.publish.methods_files import write_methods
from segstudy.publish.results import Results


def write_reporting(
    results: Results, folder: Path, with_methods: bool = True, anonymous: bool = False
) -> None:
    """Write checklists, model cards and tables into a folder, in place of what was there.

    Parameters
    ----------
    results
        Of the study.
    folder
        To write to.
    with_methods
        Whether the methods text and its references go along; in the zip they lie above.
    anonymous
        Whether a column of the cohort is withheld of which a value belongs to few subjects.
    """
    with writing_folder(folder) as temporary:
        checklists.write_checklists(results, temporary / checklists.FOLDER)
        model_cards.write_model_cards(results, temporary / model_cards.FOLDER)
        paper_tables.write_paper_tables(results, temporary / paper_tables.FOLDER, anonymous)
        if with_methods:
            write_methods(results, temporary, rerun.code(anonymous=False))
    log.info("%s: checklists, model cards and tables", folder)
