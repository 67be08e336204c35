"""A program of others as a model: what it is given, and every way in which it can go wrong."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from segstudy.errors import InputError
from segstudy.finished import Finished
from segstudy.images.files import read_label, write_nifti
from segstudy.infer import external
from segstudy.study import ExternalSettings

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
STRUCTURES = {"heart": 7, "aorta": 300}

PROGRAM = """
import sys, nibabel, numpy
*images, output = sys.argv[1:]
image = nibabel.load(images[0])
values = numpy.asarray(image.dataobj).astype("uint8")
{change}
nibabel.save(nibabel.Nifti1Image(values, image.affine), output)
"""


def program(folder: Path, change: str = "", name: str = "tool.py") -> str:
    """A program that writes the image's values as labels, or what `change` makes of them."""
    path = folder / name
    path.write_text(PROGRAM.format(change=change))
    return f"{sys.executable} '{path}'"


def settings(command, channels=("image",), **further) -> ExternalSettings:
    model = {"trainer": "external", "network": "external", "command": command}
    model["labels"] = {"heart": 1, "aorta": [2, 3]}
    return ExternalSettings.model_validate({"model": {**model, **further}, "channels": channels})


@pytest.fixture
def images(tmp_path) -> dict[str, tuple[Path, ...]]:
    """Two images whose values are 0 .. 3, in a folder whose name a shell would split."""
    folder = tmp_path / "scans; $(touch hacked) 'of' today"
    found = {}
    for number in range(2):
        values = np.random.default_rng(number).integers(0, 4, (6, 5, 4)).astype(np.int16)
        found[f"case {number}"] = (folder / f"case {number}.nii.gz",)
        write_nifti(found[f"case {number}"][0], values, AFFINE)
    return found


def predict(found: ExternalSettings, images, output: Path, **further) -> None:
    external.predict_fold(found, images, STRUCTURES, 2, output, **further)


def test_each_case_is_labelled_with_the_datasets_values(images, tmp_path):
    command = f"{program(tmp_path)} {{image}} {{output}}"
    predict(settings(command), images, tmp_path / "out")
    for case, (image,) in images.items():
        label = read_label(tmp_path / "out" / f"{case}.nii.gz")
        given = read_label(image).array
        assert np.array_equal(label.array, np.array([0, 7, 300, 300])[given])
        assert np.allclose(label.affine, AFFINE)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out"
    ]
    assert not list(tmp_path.rglob("hacked"))


def test_words_are_given_as_they_are_and_never_to_a_shell(images, tmp_path):
    """A semicolon, a glob or a substitution in the command is a word like any other."""
    seen = tmp_path / "words.txt"
    change = f"open({str(seen)!r}, 'a').write(repr(sys.argv[1:]))"
    path = tmp_path / "tool.py"
    path.write_text("import sys, shutil\n" + change + "\nshutil.copy(sys.argv[-2], sys.argv[-1])\n")
    hostile = ["; touch hacked", "$(touch hacked)", "*", "--threads={threads}"]
    command = [sys.executable, str(path), *hostile, "{image}", "{output}"]
    predict(settings(command), dict(list(images.items())[:1]), tmp_path / "out")
    words = eval(seen.read_text())  # a list that this test wrote
    assert words[:4] == ["; touch hacked", "$(touch hacked)", "*", "--threads=2"]
    assert words[-2] == str(images["case 0"][0])
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize(
    ("change", "further", "expected"),
    [
        ("sys.exit('no licence file')", {}, "ended with 1; it said:\n  no licence file"),
        ("sys.exit(0)", {}, r"did not write \{output\}"),
        ("values = values[:-1]", {}, "on another grid than its image: shape 6x5x4 against 5x5x4.*keepgeom"),
        ("values[0, 0, 0] = 9", {}, "wrote the values 9, which the model's labels do not name"),
        ("open(output, 'w').write('no image'); sys.exit(0)", {}, "not readable|damaged|gzip"),
        ("import time; time.sleep(60)", {"timeout_min": 0.005}, "stopped after 0.005 min"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named_with_its_case(images, tmp_path, change, further, expected):
    command = f"{program(tmp_path, change)} {{image}} {{output}}"
    with pytest.raises(InputError, match=expected) as error:
        predict(settings(command, **further), images, tmp_path / "out")
    assert "case 0" in str(error.value) and "case 1" in str(error.value)
    assert str(error.value).endswith("2 of 2 images could not be predicted")
    assert not (tmp_path / "out").exists()


def test_a_program_that_is_not_there(images, tmp_path):
    with pytest.raises(InputError, match="mri_synthsegg: No such file.*PATH"):
        predict(settings("mri_synthsegg {image} {output}"), images, tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("tool {image}", r"command: \{output\} is missing"),
        ("tool {output}", r"command: \{image\} is missing"),
        ("tool {image} {output} {modle}", r"unknown placeholder \{modle\}. Allowed: \{image\}, \{output\}"),
        ("tool 'unclosed {image} {output}", "command: No closing quotation"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_work_is_refused(command, expected):
    with pytest.raises(ValueError, match=expected):
        settings(command)


def test_other_values_can_be_background(images, tmp_path):
    change = "values[0, 0, 0], values[0, 0, 1] = 9, 8"
    command = f"{program(tmp_path, change)} {{image}} {{output}}"
    # By its old name too.
    for name, values in (
        ("background_labels", "all"),
        ("background_labels", (8, 9)),
        ("ignore_labels", (8, 9)),
    ):
        out = tmp_path / f"out-{name}-{values}"
        predict(settings(command, **{name: values}), images, out)
        label = read_label(out / "case 0.nii.gz").array
        assert label[0, 0, 0] == label[0, 0, 1] == 0


def test_values_that_all_become_background_are_told(images, tmp_path, caplog):
    """Where the program has other values than the study says, `all` would make each case an empty one."""
    command = f"{program(tmp_path, 'values[values > 1] += 50')} {{image}} {{output}}"
    predict(settings(command, background_labels="all"), images, tmp_path / "out")
    assert "holds aorta (2, 3), and the values 52, 53 became background" in caplog.text


def test_finished_cases_are_not_predicted_again(images, tmp_path):
    """The second case fails at first; the first is not given to the program a second time."""
    count = tmp_path / "count"
    change = (
        f"open({str(count)!r}, 'a').write('x')\n"
        f"if 'case 1' in images[0] and not __import__('os').path.exists({str(tmp_path / 'ok')!r}):\n"
        "    sys.exit(3)"
    )
    command = f"{program(tmp_path, change)} {{image}} {{output}}"
    with pytest.raises(InputError, match="ended with 3"):
        predict(settings(command), images, tmp_path / "out")
    (tmp_path / "ok").touch()
    predict(settings(command), images, tmp_path / "out")
    assert count.read_text() == "xxx"
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_each_channel_is_a_file_of_its_own(images, tmp_path):
    command = f"{program(tmp_path)} {{image_t1}} {{image_t2}} {{output}}"
    two = {"both": (images["case 0"][0], images["case 1"][0])}
    found = settings(command, channels=("t1", "t2"))
    predict(found, two, tmp_path / "out")
    assert (tmp_path / "out" / "both.nii.gz").is_file()
    with pytest.raises(InputError, match="all 2 channels in one file"):
        predict(found, {"one": two["both"][:1]}, tmp_path / "other")


def test_what_was_predicted_before_is_taken_until_the_program_or_an_image_changes(images, tmp_path):
    count = tmp_path / "count"
    said = f"open({str(count)!r}, 'a').write('x')"
    command = f"{program(tmp_path, said)} {{image}} {{output}}"
    runs = []

    def run():
        count.write_text("")
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        predict(settings(command), images, tmp_path / "out", kept=Finished(tmp_path / "kept"))
        runs.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
        return len(count.read_text())

    assert run() == 2
    moved = tmp_path / "moved"
    moved.mkdir()
    for case, (path,) in images.items():
        images[case] = (Path(shutil.copy(path, moved)),)
    assert run() == 0
    assert runs[1] == runs[0]
    program(tmp_path, f"{said}\nvalues[values == 1] = 2")
    assert run() == 2
    assert runs[2] != runs[0]
    image = images["case 1"][0]
    image.write_bytes(image.read_bytes() + b"\0")
    assert run() == 2


def test_what_channels_of_other_names_gave_is_not_taken(images, tmp_path):
    """The same files in the same order, but the command names the channel that is now the other one."""
    command = f"{program(tmp_path)} {{image_t1}} {{image_t2}} {{output}}"
    pair = {"both": (images["case 0"][0], images["case 1"][0])}
    for channels, first in ((("t1", "t2"), "case 0"), (("t2", "t1"), "case 1")):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        found = settings(command, channels=channels)
        predict(found, pair, tmp_path / "out", kept=Finished(tmp_path / "kept"))
        given = read_label(images[first][0]).array
        label = read_label(tmp_path / "out" / "both.nii.gz").array
        assert np.array_equal(label, np.array([0, 7, 300, 300])[given])


@pytest.mark.parametrize(
    "change",
    [
        {"channels": ("b",)},
        {"labels": {"heart": 1, "aorta": [2]}, "background_labels": (3,)},
        {"background_labels": (9,)},
        {"timeout_min": 1},
        {"command": "tool {image} {output} --fast"},
    ],
)
def test_unfinished_work_waits_under_all_settings_that_decide_it(
    images, tmp_path, monkeypatch, change
):
    def failed(*_):
        raise InputError("stopped")

    def waiting() -> str:
        (found,) = (tmp_path / "out.partial").iterdir()
        return found.name

    monkeypatch.setattr(external, "run", failed)
    names = []
    for further in ({}, {"memory_mb": 5, "runtime_min": 9}, change):
        with pytest.raises(InputError, match="stopped"):
            predict(
                settings(**{"command": "tool {image} {output}"} | further), images, tmp_path / "out"
            )
        names.append(waiting())
    assert names[0] == names[1] != names[2]


def test_other_weights_named_within_a_word_are_another_prediction(images, tmp_path):
    change = (
        "path = next(word for word in images if word.startswith('--w')).partition('=')[2]\n"
        "values[values > int(open(path).read())] = 0"
    )
    weights = tmp_path / "w.txt"
    tool = PROGRAM.replace("images[0]", "images[1]").format(change=change)
    (tmp_path / "tool.py").write_text(tool)
    words = [sys.executable, str(tmp_path / "tool.py"), f"--w={weights}", "{image}", "{output}"]
    for highest in (1, 2):
        weights.write_text(str(highest))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        predict(settings(words), images, tmp_path / "out", kept=Finished(tmp_path / "kept"))
        given = read_label(images["case 0"][0]).array
        label = read_label(tmp_path / "out" / "case 0.nii.gz").array
        meant = np.array([0, 7, 300, 300]) * (np.arange(4) <= highest)
        assert np.array_equal(label, meant[given])


def test_what_a_program_changes_that_its_command_names_is_not_kept(images, tmp_path, caplog):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    change = f"open({str(scratch / 'x')!r}, 'a').write('x')"
    words = f"{program(tmp_path, change)} {{image}} {{output}} --tmp={scratch}"
    # The script takes its last word for the output.
    text = (tmp_path / "tool.py").read_text()
    (tmp_path / "tool.py").write_text(text.replace("sys.argv[1:]", "sys.argv[1:-1]"))
    predict(settings(words), images, tmp_path / "out", kept=Finished(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    assert "have the program write elsewhere" in caplog.text
