"""Which files the estimate of a repair waits for, and is run again for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from repair_shapes import cohort, settings

from segstudy.paths import followed

RULES = Path(__file__).resolve().parents[3] / "workflow" / "rules" / "common.smk"


EVERY = {"p0", "p1", "p2"}
KNOWN = [[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"frame": "voxel"}, {"p0"}),
        ({"frame": "physical"}, {"p0"}),
        ({"frame": "auto"}, EVERY),
        ({"estimate_from": "images"}, EVERY),
        ({"estimate_from": "images", "reference_case": None}, EVERY),
        ({"transform": KNOWN, "reference_case": None}, {"p0"}),
    ],
)
def test_the_estimate_reads_every_case_only_where_the_images_are_asked(tmp_path, asked, read):
    text = RULES.read_text()
    begin = text.index("def estimate_files")
    function = text[begin : text.index("# ---", begin)]
    cases = {case.case: case for case in cohort(tmp_path)}
    study = SimpleNamespace(datasets={"chest": settings(**asked)})
    names = {"STUDY": study, "cases_of": {"chest": cases}.__getitem__, "followed": followed}
    exec(function, names)
    found = names["estimate_files"](SimpleNamespace(dataset="chest"))
    assert found == [
        str(file) for case in cases.values() if case.case in read for file in case.files
    ]
