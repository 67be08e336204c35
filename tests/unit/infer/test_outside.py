"""Images outside any study, by several weights: what is finished, what fails, what is told, and bundles from an empty folder."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.checksum import image_checksum
from segstudy.images.files import read_image, read_label, write_label
from segstudy.infer import batch, image, outputs
from segstudy.networks.weights import load_weights, save_weights


@pytest.fixture
def here(tmp_path, monkeypatch, write_weights, write_image, oblique):
    """Two weights and two scans, the second mirrored; small networks whose answer is known."""
    monkeypatch.chdir(tmp_path)
    for fold in (0, 1):
        (tmp_path / f"fold-{fold}").mkdir()
        write_weights(tmp_path / f"fold-{fold}/weights.pt", fold=fold)
    small = oblique[0][::2, ::2, ::2]
    (tmp_path / "scans").mkdir()
    write_image(tmp_path / "scans/a.nii.gz", small)
    write_image(tmp_path / "scans/b.nii.gz", small[::-1])
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """Names of the images that are read for a prediction."""
    seen, module = [], batch.importlib.import_module("segstudy.infer.ensemble")
    for steps in (image, module):
        real = steps.read

        def counted(trained, paths, spacing_mm=(), real=real):
            seen.append(paths[0].name)
            return real(trained, paths, spacing_mm)

        monkeypatch.setattr(steps, "read", counted)
    return seen


ALL = ["--weights", "fold-*/weights.pt", "--output", "out"]


def test_an_ensemble_of_a_pattern_with_volumes_and_probabilities(here, capsys, oblique):
    assert main(["infer", *ALL, "--probabilities", "scans"]) == 0
    assert sorted(path.name for path in Path("out").iterdir() if path.name[0] != ".") == [
        *("a.nii.gz", "a.npz", "b.nii.gz", "b.npz", "summary.csv")
    ]
    rows = pd.read_csv("out/summary.csv")
    assert list(rows.columns) == ["case", "structure", "label", "n_voxels", "volume_ml"]
    label = read_label("out/a.nii.gz")
    voxel_ml = 2.5 * 0.9 * 1.3 / 1000  # as the fixture's axes have it
    for _, row in rows[rows.case == "a"].iterrows():
        assert row.n_voxels == (label.array == row.label).sum() > 0
        assert row.volume_ml == pytest.approx(row.n_voxels * voxel_ml, rel=1e-4)
    assert set(rows.case) == {"a", "b"}
    # As `segstudy metrics` reads them, and of the same voxels.
    shutil.copytree("out", "reference", ignore=shutil.ignore_patterns("*.npz", "*.csv", ".*"))
    words = ["--reference", "reference", "--prediction", "out", "--probabilities", "out"]
    settings = ["--settings", '{"structures": {"shell": 1, "core": 2}}']
    assert main(["metrics", *words, "--output", "m.csv", *settings]) == 0
    found = pd.read_csv("m.csv").set_index(["case", "structure", "metric"])["value"]
    assert found["a", "core", "dice"] == 1
    assert 0 <= found["a", "core", "brier"] < 0.05
    with np.load("out/a.npz") as content:
        probabilities = content["probabilities"].transpose(0, 3, 2, 1)
    assert (probabilities.argmax(0) != label.array).mean() < 1e-3


def test_probabilities_go_by_label_values(tmp_path):
    """Value 3 has the place 3, and the same numbers give the same bytes."""
    classes = np.stack([np.full((2, 3, 4), part, np.float32) for part in (0.5, 0.3, 0.2)])
    classes[:, 0, 1, 2] = 0.25, 0.25, 0.5
    for name in ("one.npz", "two.npz"):
        outputs.write_probabilities(tmp_path / name, classes, [3, 1])
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as content:
        found = content["probabilities"]
    assert found.shape == (4, 4, 3, 2)
    assert found[:, 2, 1, 0].tolist() == [0.25, 0.5, 0, 0.25]
    assert found[:, 0, 0, 0] == pytest.approx([0.5, 0.2, 0, 0.3], abs=2e-4)


def test_what_is_finished_is_not_made_again(here, read, oblique, write_image, write_weights):
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == ["a.nii.gz", "b.nii.gz"]
    read.clear()
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == []
    # A file that was changed, one that is gone, and another image under an old name.
    label = read_label("out/a.nii.gz")
    write_label("out/a.nii.gz", np.zeros_like(label.array), label.affine)
    Path("out/b.nii.gz").unlink()
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == ["a.nii.gz", "b.nii.gz"]
    assert np.array_equal(read_label("out/a.nii.gz").array, label.array)
    read.clear()
    write_image(Path("scans/b.nii.gz"), oblique[0][::2, ::2, ::-2])
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == ["b.nii.gz"]
    # Other settings, other weights: all anew.
    read.clear()
    assert main(["infer", *ALL, "--structures", '{"shell": 2, "core": 1}', "scans"]) == 0
    assert read == ["a.nii.gz", "b.nii.gz"]
    read.clear()
    one = ["--weights", "fold-0/weights.pt", "--output", "out"]
    assert main(["infer", *one, "scans/a.nii.gz"]) == 0
    assert read == ["a.nii.gz"]


def test_a_kill_loses_no_more_than_the_image_under_way(here, read, monkeypatch):
    real = outputs.Record.add

    def killed(record, entry):
        if entry.case == "b":
            # The label file is there, and the line that says so was cut off.
            with (record.folder / outputs.RECORD).open("a") as file:
                file.write(json.dumps({"case": "b"})[:8])
            raise KeyboardInterrupt
        real(record, entry)

    with monkeypatch.context() as planted:
        planted.setattr(outputs.Record, "add", killed)
        assert main(["infer", *ALL, "scans"]) == 130
    read.clear()
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == ["b.nii.gz"]
    assert set(pd.read_csv("out/summary.csv").case) == {"a", "b"}
    read.clear()
    assert main(["infer", *ALL, "scans"]) == 0
    assert read == []


def test_two_processes_in_one_folder_have_one_summary(tmp_path):
    """Names that hold what some take for an end of line are read again, too."""
    (tmp_path / "x.nii.gz").write_bytes(b"label")
    (tmp_path / outputs.RECORD).touch()
    first, second = (outputs.Record(tmp_path) for _ in range(2))
    label = outputs.Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    for record, case in ((first, "a"), (second, "b\u2028\u0085\rc")):
        file = {"x.nii.gz": tmp_path / "x.nii.gz"}
        record.add(outputs.entry_of(case, ("key", "weights", "members"), label, {"shell": 1}, file))
    second.write_summary()
    first.write_summary()
    rows = pd.read_csv(tmp_path / outputs.SUMMARY, lineterminator="\n")
    assert list(rows.case) == ["a", "b\u2028\u0085\rc"]
    assert outputs.Record(tmp_path).finished("b\u2028\u0085\rc", "key")


def test_one_bad_image_stops_no_other(here, capsys):
    whole = Path("scans/a.nii.gz").read_bytes()
    Path("scans/aa.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert main(["infer", *ALL, "scans"]) == 1
    error = capsys.readouterr().err
    assert "aa.nii.gz" in error
    assert "1 of 3 images could not be predicted" in error
    assert set(pd.read_csv("out/summary.csv").case) == {"a", "b"}


def test_a_file_that_is_none_stops_no_other(here, capsys):
    Path("scans/empty.nii.gz").touch()
    Path("list.csv").write_text("case,image\na,scans/a.nii.gz\nlost,scans/none.nii.gz\n")
    assert main(["infer", *ALL, "scans", "scans/nowhere.nii.gz"]) == 1
    error = capsys.readouterr().err
    assert "scans/empty.nii.gz: an empty file" in error
    assert "scans/nowhere.nii.gz: no such file" in error
    assert "2 of 4 images were refused" in error
    assert set(pd.read_csv("out/summary.csv").case) == {"a", "b"}
    assert main(["infer", *ALL, "list.csv"]) == 1
    assert "scans/none.nii.gz: no such file" in capsys.readouterr().err


def test_a_table_of_the_users_own_is_not_overwritten(here, capsys):
    Path("out").mkdir()
    Path("out/summary.csv").write_text("case,image\na,../scans/a.nii.gz\n")
    assert main(["infer", *ALL, "out/summary.csv"]) == 1
    assert "out/summary.csv: is there" in capsys.readouterr().err
    assert Path("out/summary.csv").read_text().startswith("case,image")
    assert not Path("out/a.nii.gz").exists()


@pytest.mark.parametrize("name", ["b.nii.gz", "b.npz"])
def test_files_of_others_are_not_overwritten(here, capsys, read, name):
    """The labels of an expert, say, that bear the names of the scans."""
    Path("out").mkdir()
    Path("out", name).write_bytes(b"an expert's")
    assert main(["infer", *ALL, "--probabilities", "scans"]) == 1
    assert f"out/{name}: is there, and not of segstudy's" in capsys.readouterr().err
    assert not read and Path("out", name).read_bytes() == b"an expert's"
    assert [path.name for path in Path("out").iterdir()] == [name]
    # What stands there and is not in the way is left as it is.
    assert main(["infer", *ALL, "--probabilities", "scans/a.nii.gz"]) == 0
    assert Path("out", name).read_bytes() == b"an expert's"


def test_files_of_others_are_told_from_those_of_an_earlier_run(tmp_path):
    first = outputs.Entry("a", "k", "w", {"a.nii.gz": "0"}, {"liver": 1}, {"liver": 1}, 1.0)
    judged = replace(first, sha256={"a.seg.nrrd": "0"}, quality=[{"structure": "liver"}])
    (tmp_path / "entropy").mkdir()
    ours = ["a.nii.gz", "a.seg.nrrd", "quality.csv", "summary.csv"]
    theirs = ["a.npz", "entropy/a.nii.gz"]
    for name in (*ours, *theirs):
        (tmp_path / name).touch()
    outputs.Record(tmp_path).add(first)
    for name in ("a.seg.nrrd", *theirs):
        with pytest.raises(InputError, match=f"{name}: is there, and not of segstudy's"):
            outputs.Record(tmp_path).refuse_others_files({"a": ["a.nii.gz", name]})
    with pytest.raises(InputError, match="quality.csv: is there"):
        outputs.Record(tmp_path).refuse_others_tables(["summary.csv", "quality.csv"])
    # To and fro: what either run left is known, and what a kill left, whose names are not told.
    record = outputs.Record(tmp_path)
    record.begin("a")
    outputs.Record(tmp_path).refuse_others_files({"a": theirs})
    record.add(judged)
    again = outputs.Record(tmp_path)
    again.refuse_others_files({"a": ["a.nii.gz", "a.seg.nrrd"]})
    again.refuse_others_tables(["summary.csv", "quality.csv"])
    with pytest.raises(InputError, match="and 1 more"):
        again.refuse_others_files({"a": theirs})
    # Of other weights, perhaps: metrics would read probabilities beside labels that are not theirs.
    assert again.left_over() == ["a.nii.gz"]
    (tmp_path / "a.nii.gz").unlink()
    assert again.left_over() == []


def test_what_other_weights_made_of_an_image_goes_with_its_label(here, caplog):
    """Maps, probabilities and labels of another format; what somebody has changed stays, and is told, as of the same weights."""
    caplog.set_level(logging.INFO, "segstudy")
    two, one = ALL, ["--weights", "fold-1/weights.pt", "--output", "out"]
    assert main(["infer", *two, "--uncertainty", "--probabilities", "scans"]) == 0
    assert main(["infer", *two, "--format", "seg.nrrd", "scans/b.nii.gz"]) == 0
    assert "left of earlier predictions" in caplog.text and "removed" not in caplog.text
    Path("out/mutual_information/a.nii.gz").write_bytes(b"edited")
    caplog.clear()
    assert main(["infer", *one, "scans"]) == 0
    made = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert made - {outputs.RECORD} == {
        *("a.nii.gz", "b.nii.gz", "summary.csv", "mutual_information/a.nii.gz")
    }
    assert not Path("out/entropy").exists()
    assert "out: 6 files that other weights had made of these images are removed" in caplog.text
    assert "not of the present ones: mutual_information/a.nii.gz (1 in all)" in caplog.text


def test_an_image_is_not_overwritten_by_its_own_map(here, capsys):
    Path("out/entropy").mkdir(parents=True)
    scan = Path("out/entropy/a.nii.gz")
    shutil.copy("scans/a.nii.gz", scan)
    assert main(["infer", *ALL, "--uncertainty", str(scan)]) == 1
    assert f"{scan}: is there, and not of segstudy's" in capsys.readouterr().err
    assert scan.read_bytes() == Path("scans/a.nii.gz").read_bytes()


def test_an_image_that_another_ones_label_would_overwrite_is_told(here, capsys):
    before = Path("scans/b.nii.gz").read_bytes()
    Path("list.csv").write_text("case,image\nb,scans/a.nii.gz\nc,scans/b.nii.gz\n")
    assert main(["infer", *ALL[:-1], "scans", "list.csv"]) == 1
    assert "scans/b.nii.gz: the label of b would overwrite it" in capsys.readouterr().err
    assert Path("scans/b.nii.gz").read_bytes() == before


def test_an_image_that_a_member_was_trained_on_is_refused(here, capsys):
    """Planted: the second member has seen scan b, under another name and turned."""
    trained = load_weights("fold-1/weights.pt")
    seen = {"clinic/Anna": image_checksum(read_image(["scans/b.nii.gz"]))}
    provenance = trained.provenance | {"training": list(seen), "images": seen}
    save_weights("fold-1/weights.pt", replace(trained, provenance=provenance))
    assert main(["infer", *ALL, "scans"]) == 1
    error = capsys.readouterr().err
    assert "scans/b.nii.gz: the weights were trained on this image" in error
    assert "(case clinic/Anna)" in error
    assert Path("out/a.nii.gz").is_file()
    assert not Path("out/b.nii.gz").exists()
    # However the members are asked.
    for option in ("--uncertainty", "--quality"):
        words = ["--weights", "fold-*/weights.pt", "--output", option.strip("-"), option]
        assert main(["infer", *words, "scans/b.nii.gz"]) == 1
        assert "the weights were trained on this image" in capsys.readouterr().err
    # In an anonymous bundle, too, which does not tell who it is.
    words = ["--weights", "fold-0/weights.pt", "fold-1/weights.pt", "--output", "m", "--anonymous"]
    assert main(["bundle", *words]) == 0
    capsys.readouterr()
    assert main(["infer", "--weights", "m", "--output", "other", "scans/b.nii.gz"]) == 1
    error = capsys.readouterr().err
    assert "the weights were trained on this image" in error
    assert "Anna" not in error
    assert main(["infer", *ALL, "--trained-on-too", "scans"]) == 0
    assert Path("out/b.nii.gz").is_file()
    # Once let through, it is not so for good.
    capsys.readouterr()
    assert main(["infer", *ALL, "scans/b.nii.gz"]) == 1
    assert "the weights were trained on this image" in capsys.readouterr().err


def test_a_bundle_in_an_empty_folder_makes_the_same_files(here, monkeypatch, tmp_path):
    assert main(["infer", *ALL, "--format", "seg.nrrd", "scans/a.nii.gz"]) == 0
    (tmp_path / "empty").mkdir()
    words = ["--weights", "fold-*/weights.pt", "--output", "empty/m.bundle"]
    assert main(["bundle", *words]) == 0
    monkeypatch.chdir(tmp_path / "empty")
    for fold in (0, 1):
        shutil.rmtree(tmp_path / f"fold-{fold}")
    words = ["--weights", "m.bundle", "--output", "out", "--format", "seg.nrrd"]
    assert main(["infer", *words, "../scans/a.nii.gz"]) == 0
    files = [tmp_path / place / "a.seg.nrrd" for place in ("out", "empty/out")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_colours_of_a_bundle_are_those_of_its_files(here):
    words = ["--weights", "fold-0/weights.pt", "--output", "m", "--colours", '{"core": "#ff0000"}']
    assert main(["bundle", *words]) == 0
    words = ["--weights", "m", "--output", "out", "--format", "seg.nrrd", "scans/a.nii.gz"]
    assert main(["infer", *words]) == 0
    header = Path("out/a.seg.nrrd").read_bytes()[:3000].decode(errors="replace")
    assert "Segment1_Color:=1 0 0" in header
    assert "Segment0_Color:=0.901961 0.623529 0" in header


def test_a_table_of_images(here, capsys):
    Path("table.tsv").write_text("case\timage\tage\nMüller 1\tscans/a.nii.gz\t60\n")
    assert main(["infer", *ALL, "table.tsv"]) == 0
    assert Path("out/Mueller_1.nii.gz").is_file()
    for text, said in (
        ("case\tpicture\nx\tscans/a.nii.gz\n", "table.tsv: no column 'image'"),
        ("case\timage\nx\t\n", "table.tsv: row 2, column image: empty"),
        ("case\timage\nx\tgone.nii.gz\n", "gone.nii.gz: no such file"),
        ("case\timage\n", "table.tsv: no row below the header"),
    ):
        Path("table.tsv").write_text(text)
        capsys.readouterr()
        assert main(["infer", *ALL, "table.tsv"]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "none-*.pt", "--output", "o", "scans"], "no file matches this pattern"),
        (["--output", "o", "--weights", "fold-0/weights.pt", "scans"], "Images follow --output"),
        ([*ALL, "--probabilities", "--structures", '{"shell": 1, "core": 300}', "scans"], "at most 255"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_with_several_is_said(here, capsys, words, said):
    assert main(["infer", *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
