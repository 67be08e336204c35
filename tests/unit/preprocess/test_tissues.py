"""Label maps for drawing images: which parts, on which grid, and what looks alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy.cases import Case
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.arrays import open_tissues
from segstudy.images.files import write_label
from segstudy.images.prepare import IGNORED
from segstudy.preprocess.tissues import tissues_of, tissues_shard
from segstudy.study import TissueSettings

SETTINGS = {
    "plan": {"margin_mm": 0},
    "dataset": {"modality": "MR", "structures": {"right": 49, "left": 10}},
    "structures": ["left", "right"],
    "left_right_pairs": [["left", "right"]],
    "tissues": {"white": [2, 41]},
}


def case(folder: Path, label: np.ndarray, affine=None) -> Case:
    path = folder / "map.nii.gz"
    write_label(path, label, np.eye(4) if affine is None else affine)
    return Case("map", "map", (), path)


def made(folder: Path, label: np.ndarray, spacing_mm=(1.0, 1.0, 1.0), affine=None, **changes):
    settings = TissueSettings.model_validate({**SETTINGS, **changes})
    tissues_shard("brains", [case(folder, label, affine)], spacing_mm, settings, folder / "out")
    return open_tissues([folder / "out"])["brains", "map"]


def test_structures_come_first_and_all_else_is_kept(tmp_path):
    label = np.zeros((8, 6, 4), np.uint16)
    label[1:7, 1:5, 1:3] = np.array([2, 10, 16, 41, 49, 510]).reshape(6, 1, 1)
    found = made(tmp_path, label)
    assert found.parts.shape == (6, 4, 2)  # cropped to what is labelled
    assert found.parts[:, 0, 0].tolist() == [3, 1, 4, 5, 2, 6]
    tissues, classes = found.read()
    assert classes[:, 0, 0].tolist() == [0, 1, 0, 0, 2, 0]
    left, right, white, stem, other_white, skull = (tissues[at, 0, 0] for at in (1, 4, 0, 2, 3, 5))
    assert left == right and white == other_white
    assert len({left, white, stem, skull, 0}) == 5


def test_a_label_table_tells_the_sides_of_what_is_no_structure(tmp_path):
    label = np.zeros((4, 4, 5), np.uint16)
    label[:] = [3, 42, 16, 10, 49]  # cortex of both sides, brain stem, thalamus of both sides
    dataset = {**SETTINGS["dataset"], "label_table": "freesurfer"}
    found = made(tmp_path, label, dataset=dataset, tissues={})
    tissues, _ = found.read()
    cortex, other_cortex, stem, left, right = tissues[0, 0].tolist()
    assert cortex == other_cortex and left == right
    assert len({cortex, stem, left}) == 3


def test_maps_are_turned_to_ras_and_resampled(tmp_path):
    label = np.zeros((12, 12, 12), np.uint16)
    label[:6] = 10
    label[6:] = 2
    found = made(tmp_path, label, (2.0, 2.0, 3.0), affine=np.diag([-1.0, 1, 1, 1]))
    assert found.parts.shape == (6, 6, 4)
    assert found.spacing_mm == (2.0, 2.0, 3.0)
    assert (found.parts[:3] == 3).all() and (found.parts[3:] == 1).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=True),
       st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), max_size=4))  # fmt: skip
def test_values_share_a_tissue_just_where_groups_join_them(values, groups):
    numbers = dict(zip(values, tissues_of(values, groups), strict=True))
    joined = {value: {value} for value in range(1, 10)}
    for _ in range(9):
        for group in groups:
            union = set().union(*(joined[value] for value in group))
            for value in union:
                joined[value] = joined[value] | union
    for one in values:
        for other in values:
            assert (numbers[one] == numbers[other]) == (other in joined[one])
    assert min(numbers.values()) == 1 and max(numbers.values()) == len(set(numbers.values()))


def test_more_values_than_a_byte_holds_are_refused(tmp_path):
    label = np.arange(1, 301, dtype=np.uint16).reshape(10, 10, 3)
    with pytest.raises(InputError, match=r"map\.nii\.gz: 300 label values \(case map\)"):
        made(tmp_path, label)


def test_the_command_writes_what_training_reads(tmp_path):
    found = case(tmp_path, np.full((8, 8, 8), 10, np.uint8))
    table = tmp_path / "cases.tsv"
    row = f"map\tmap\t{found.label}\t{found.label}\t\t\t\t8x8x8\t1x1x1"
    header = "case\tsubject\timage\tlabel\treference_label\tfold\tsplit\tshape\tspacing_mm"
    table.write_text(f"{header}\n{row}\n")
    words = ["preprocess", "tissues", "--dataset", "brains", "--cases", str(table)]
    words += ["--grid", "2x2x2", "--settings", json.dumps(SETTINGS)]
    main([*words, "--output", str(tmp_path / "out")])
    assert open_tissues([tmp_path / "out"])["brains", "map"].parts.shape == (4, 4, 4)
    with pytest.raises(InputError, match="no label map; expected a folder"):
        open_tissues([tmp_path])


def test_a_damaged_description_is_named(tmp_path):
    made(tmp_path, np.full((8, 8, 8), 10, np.uint8))
    (tmp_path / "out" / "map.json").write_text('{"case": "map"}')
    with pytest.raises(InputError, match=r"map\.json: damaged description.*run .* again"):
        open_tissues([tmp_path / "out"])


def test_what_nobody_has_labelled_is_a_tissue_of_its_own_and_no_class(tmp_path):
    label = np.zeros((6, 6, 5), np.uint16)
    label[:] = [2, 10, 49, 7, 9]
    dataset = {**SETTINGS["dataset"], "ignore": [7, 9]}
    tissues, classes = made(tmp_path, label, dataset=dataset).read()
    assert classes[0, 0].tolist() == [0, 1, 2, IGNORED, IGNORED]
    white, left, right, *ignored = tissues[0, 0].tolist()
    assert left == right and len(set(ignored)) == 1
    assert len({white, left, ignored[0], 0}) == 4
