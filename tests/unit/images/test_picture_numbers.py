"""Stacks of pictures are paired by the numbers in the names of the slices, and a missing one is named."""

import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image as Picture

from dicom_series import write_series
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import read_image, read_label
from segstudy.images.fitting import slice_by_slice
from segstudy.images.formats.dicom_series import places_by_name

VOLUME = np.random.default_rng(0).integers(0, 2, (8, 7, 12)).astype(np.uint8)


def stack(folder, numbers, name="slice_{}.png"):
    """Pictures whose voxels are those of the volume's slice of the same number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Picture.fromarray(VOLUME[:, :, number].T).save(folder / name.format(number))
    return folder


def test_slices_stand_in_the_order_of_their_numbers(tmp_path):
    found = read_label(stack(tmp_path / "a", range(12), "p3_{}_x.png"))
    np.testing.assert_array_equal(found.array, VOLUME)
    assert found.slice_numbers == tuple(range(12))
    even = read_label(stack(tmp_path / "b", range(1, 12, 2), "IMG-0004-{:05d}.png"))
    np.testing.assert_array_equal(even.array, VOLUME[:, :, 1::2])


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize(
    ("of_series", "of_pictures"),
    [
        ("IMG-0004-{}.dcm", "{:03d}.png"),
        ("slice{}", "g{}.png"),
        ("1.2.840.{}", "liver_GT_{:03d}.png"),
        ("i{:04d},0000b.dcm", "{}.PNG"),
    ],
)
def test_pictures_stand_on_the_slices_of_a_series_by_both_numbers(
    tmp_path, of_series, of_pictures, upwards
):
    """Of 8 to 11, as text 10 and 11 come first; files of scanners may have no ending, and count downwards."""
    written = write_series(tmp_path / "written", VOLUME[:, :, :4].astype(np.int16), np.eye(4))
    (tmp_path / "ct").mkdir()
    (tmp_path / "label").mkdir()
    files = sorted(written.iterdir(), key=lambda file: pydicom.dcmread(file).InstanceNumber)
    for place, file in enumerate(files):
        number = 8 + (place if upwards else 3 - place)
        file.rename(tmp_path / "ct" / of_series.format(number))
        picture = Picture.fromarray(VOLUME[:, :, place].T)
        picture.save(tmp_path / "label" / of_pictures.format(number))
    series = read_image(tmp_path / "ct")
    label = slice_by_slice(read_label(tmp_path / "label"), tmp_path / "ct", series.grid)
    np.testing.assert_array_equal(label.array, series.array[0])


def test_a_missing_slice_is_named(tmp_path):
    with pytest.raises(InputError, match="a: after slice 4 comes 6; expected 5: numbers"):
        read_label(stack(tmp_path / "a", [0, 1, 2, 3, 4, 6, 7]))
    with pytest.raises(InputError, match="after slice 0 comes 2; expected 1"):
        read_label(stack(tmp_path / "b", [0, 2, 3]))
    stack(tmp_path / "c", [1, 2])
    with pytest.raises(InputError, match="c: two slices of number 2"):
        read_label(stack(tmp_path / "c", [2], "slice_0{}.png"))


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("s1_z5.png", "s2_z6.png")])
def test_names_that_do_not_count_the_slices_are_refused(tmp_path, names):
    for name in names:
        stack(tmp_path / "a", [1], name)
    with pytest.raises(InputError, match="names that do not count the slices"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize("shift", [0, 1])
def test_an_image_and_its_label_have_the_same_numbers(tmp_path, shift):
    stack(tmp_path / "scan", range(11))
    stack(tmp_path / "label", range(shift, 11 + shift))
    (tmp_path / "cases.tsv").write_text("case\timage\tlabel\na\tscan\tlabel\n")
    settings = {
        "source": {"layout": "table", "path": str(tmp_path / "cases.tsv")},
        **{"modality": "other", "structures": {"organ": 1}, "spacing_mm": [1, 1, 3]},
    }
    out = [str(tmp_path / "out" / name) for name in ("cases.tsv", "problems.tsv")]
    code = main(
        ["download", "audit", "--dataset", "d", "--settings", json.dumps(settings)]
        + ["--cases", out[0], "--problems", out[1]]
    )
    assert code == shift
    said = pd.read_csv(out[1], sep="\t")["problem"].str.cat()
    expected = "pictures numbered 1 to 11, 11 of them; expected the numbers 0 to 10, 11 of them"
    assert (expected in said) == bool(shift)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_prediction_has_the_numbers_of_its_reference(tmp_path, capsys, shift):
    """As folders of stacks: a stack a case."""
    stack(tmp_path / "r" / "p1", range(11))
    stack(tmp_path / "p" / "p1", range(shift, 11 + shift))
    code = main(
        [
            *("metrics", "--reference", str(tmp_path / "r"), "--prediction", str(tmp_path / "p")),
            *("--output", str(tmp_path / "m.csv")),
        ]
    )
    assert code == shift
    if shift:
        assert "pictures numbered 1 to 11" in capsys.readouterr().err
    else:
        found = pd.read_csv(tmp_path / "m.csv").set_index("metric")["value"]
        assert found["dice"] == 1


def test_channels_of_pictures_keep_the_lack_of_a_size_and_have_the_same_numbers(tmp_path):
    both = [stack(tmp_path / name, range(5)) for name in "ab"]
    image = read_image(both, 2)
    assert not image.has_spacing and image.slice_numbers == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match="c: pictures numbered 1 to 5"):
        read_image([both[0], stack(tmp_path / "c", range(1, 6))], 2)


def test_files_of_a_series_that_pictures_are_paired_with_are_numbered_without_a_gap(tmp_path):
    folder = write_series(tmp_path / "ct", VOLUME[:, :, :4].astype(np.int16), np.eye(4))
    for place, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"i{place + (place > 1)}.dcm")
    with pytest.raises(InputError, match="ct: after slice 1 comes 3; expected 2"):
        places_by_name(folder)
