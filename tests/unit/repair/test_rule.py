"""Which files the estimate of a repair waits for, and is run again for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from repair_shapes import cohort, settings

RULES = Path(__file__).resolve().parents[3] / "workflow" / "rules" / "common.smk"


@pytest.mark.parametrize(
    ("frame", "read"), [("voxel", {"p0"}), ("physical", {"p0"}), ("auto", {"p0", "p1", "p2"})]
)
def test_the_estimate_reads_every_case_only_where_the_images_choose_the_frame(
    tmp_path, frame, read
):
    text = RULES.read_text()
    function = text[text.index("def estimate_files") : text.index("# --- plans and arrays")]
    cases = {case.case: case for case in cohort(tmp_path)}
    study = SimpleNamespace(datasets={"chest": settings(frame=frame)})
    names = {"STUDY": study, "cases_of": {"chest": cases}.__getitem__}
    exec(function, names)
    found = names["estimate_files"](SimpleNamespace(dataset="chest"))
    assert found == [
        str(file) for case in cases.values() if case.case in read for file in case.files
    ]
