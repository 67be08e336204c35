"""Whether subjects are on record, or each case is taken for one."""

from segstudy.publish.results import Results

_BY_CASE = frozenset({"files", "label_maps", "msd", "nnunet", "plugin", "segthor", "table"})
"""Layouts in which a case is taken for a subject where nothing names its subject."""


def without_subjects(results: Results) -> list[str]:
    """Return the datasets in which no case has a subject's name apart from its own, so that each is taken for a subject."""
    found = []
    for name, dataset in results.study.datasets.items():
        cases = [case for case in results.cases(name) if case.same_image_as is None]
        if dataset.source.layout in _BY_CASE and all(case.subject == case.case for case in cases):
            found.append(name)
    return found
