"""Tables as people and other programs write them: read right, or refused in a sentence that helps."""

import contextlib
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.statistics.importers import read_tables
from segstudy.statistics.values import chosen_metrics, read_values
from segstudy.study import Statistics

INF, NAN = float("inf"), float("nan")
HEAD = "model,case,structure,metric,value\n"
TWO = HEAD + "A,c1,heart,dice,0.85\nA,c2,heart,dice,0.75\n"


def write(folder, text, name="m.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def values(path, **options):
    return read_values(path, **options)["value"].tolist()


# --- how a table is written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TWO, "utf-8"),
        (TWO, "utf-8-sig"),
        (TWO.replace(",", "\t"), "utf-16"),
        (TWO.replace(",", ";"), "utf-8"),
        (TWO.replace(",", ";").replace(".", ","), "utf-8"),
        (TWO.replace(",", "\t").replace(".", ","), "utf-8"),
        ("sep=;\n" + TWO.replace(",", ";"), "utf-8"),
        (TWO.replace("\n", "\r\n"), "utf-8"),
        (TWO.replace("\n", "\r"), "utf-8"),
        (TWO.replace("\n", "\n\n"), "utf-8"),
        (TWO.replace(",", " , "), "utf-8"),
        (TWO.replace("model,case,structure,metric,value", "Model, Case,STRUCTURE,Metric,Value "), "utf-8"),
        (TWO.replace("model", ",model").replace("A,", "0,A,"), "utf-8"),
        (TWO.replace(HEAD, HEAD.replace("value", "value,")).replace("5\n", "5,\n"), "utf-8"),
        (TWO.replace("heart", '"heart"'), "utf-8"),
        (TWO.replace("0.85", "8.5E-1").replace("0.75", "+.75"), "utf-8"),
    ],
)  # fmt: skip
def test_the_same_table(tmp_path, text, encoding):
    found = read_values(write(tmp_path, text, encoding=encoding))
    assert found[["model", "case", "structure", "metric", "value"]].values.tolist() == [
        ["A", "c1", "heart", "dice", 0.85],
        ["A", "c2", "heart", "dice", 0.75],
    ]


@pytest.mark.parametrize(
    "word", ["", " ", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "-", "–"]
)
def test_words_for_undefined(tmp_path, word):
    np.testing.assert_equal(values(write(tmp_path, TWO.replace("0.85", word))), [NAN, 0.75])


@pytest.mark.parametrize("word", ["inf", "Inf", "+inf", "INFINITY", "∞"])
def test_words_for_infinite(tmp_path, word):
    text = TWO.replace("dice", "hd95_mm").replace("0.85", word)
    assert values(write(tmp_path, text)) == [INF, 0.75]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as a table .it is empty"),
        ("\n\n", "it is empty"),
        ("a\0b", "zero bytes"),
        (TWO.replace("c2", '"c2'), "row 3: not readable as a table"),
        ("model;case,structure;metric,value\n", "as many commas as semicolons"),
        ("model case structure metric value\n", "separated by commas, semicolons or tabs"),
        ("model|case\n", "separated by commas, semicolons or tabs"),
        (HEAD.replace("case", "metric") + "A,c,s,dice,1\n", "two columns are named 'metric'"),
        (HEAD.replace("case", "Metric") + "A,c,s,dice,1\n", "two columns are named 'metric'"),
        (HEAD, "no values in it"),
        (TWO.replace("0.75", "0,75"), "row 3: 6 cells, but the header has 5 columns; decimal commas"),
        (TWO.replace(",0.75", ""), "row 3: 4 cells, but the header has 5 columns$"),
        (TWO.replace("value", "value,").replace("0.75", "0,75").replace("0.85", "0.85,"),
         "row 3: a cell below no name"),
        (TWO.replace("0.75", '"0,75"'), "row 3: value is '0,75'.*Write decimal points, or semicolons"),
        (TWO.replace(",", ";").replace("0.85", "0,85"), "row 2: value is '0,85'.*all numbers with points"),
        (TWO.replace(",", ";").replace(".", ",").replace("0,75", "1,234,5"), "value is '1,234,5'"),
        (TWO.replace("0.75", "75 %"), "row 3: value is '75 %'.*Divide percentages by 100"),
        (TWO.replace("0.75", "1e999"), "row 3: value is '1e999'; expected a number"),
        (TWO.replace("0.75", "1_0"), "row 3: value is '1_0'"),
        (TWO.replace("c2", ""), "row 3: no case"),
        (TWO.replace("A,c2", ",c2"), "row 3: no model"),
        (TWO.replace("model,", "").replace("A,", ""), "no column 'model'.*given as MODEL=FILE"),
        ("filename,heart,mean\nc1,1,1\n", "no column.*A table of MONAI is given as MODEL=FILE"),
        ("n_predicted_voxels," + TWO.replace("A,", "-3,A,"), "row 2: n_predicted_voxels is -3"),
        ("diagonal_mm," + TWO.replace("A,", "inf,A,"), "row 2: diagonal_mm is inf"),
        (TWO.replace("c2", "c1").replace("heart,dice,0.75", "heart,DSC,0.75"),
         "two rows with dice of heart by model A .*written 'dice' and 'DSC'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_tables([write(tmp_path, text)])


def test_files_that_are_no_text(tmp_path):
    for content, message in (
        (b"PK\x03\x04", "save it as CSV"),
        (b"a,b\n\xe4,1\n", "save it as UTF-8"),
    ):
        (tmp_path / "m.csv").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_tables([tmp_path / "m.csv"])
    with pytest.raises(InputError, match="a folder; expected a table"):
        read_tables([tmp_path])


def test_labels_and_sizes(tmp_path):
    found = read_values(write(tmp_path, TWO))
    assert (found[["subject", "status", "dataset", "fold", "seed"]] == "").all(axis=None)
    assert found[["n_reference_voxels", "n_predicted_voxels", "diagonal_mm"]].isna().all(axis=None)
    text = (
        "Subject,status,n_reference_voxels,n_predicted_voxels," + HEAD
        + " s01 ,ok,120,0,A,c1,heart,dice,0\n,missing_file,5.0,,A,c2,heart,dice,\n"
    )  # fmt: skip
    found = read_values(write(tmp_path, text))
    assert found["subject"].tolist() == ["s01", ""]
    assert found["status"].tolist() == ["ok", "missing_file"]
    assert found["n_reference_voxels"].tolist() == [120, 5]
    np.testing.assert_equal(found["n_predicted_voxels"].tolist(), [0, NAN])


# --- metrics -------------------------------------------------------------------------------------


def test_other_programs_names_become_ours_and_assumptions_are_said(tmp_path, caplog):
    text = HEAD + "A,c1,s,Dice,0.5\nB,c1,s,DSC,0.6\nA,c1,s,HD95,3\nB,c1,s,hd95 (mm),4\n"
    with caplog.at_level(logging.WARNING, "segstudy"):
        found = read_values(write(tmp_path, text))
    assert found["metric"].tolist() == ["dice", "dice", "hd95_mm", "hd95_mm"]
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "metric 'HD95': its values are taken to be in mm"
    ]


def test_all_unknown_metrics_are_refused_until_a_direction_is_given(tmp_path):
    path = write(tmp_path, HEAD + "A,c1,s,dice,0.5\nA,c1,s,foo,5\nA,c1,s,Bar,6\n")
    with pytest.raises(InputError, match="m.csv: metrics 'foo', 'Bar': not known"):
        read_values(path)
    found = read_values(path, directions={"foo": "lower", "bar": "zero"})
    assert found["metric"].tolist() == ["dice", "foo", "bar"]


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        ("dice", "88.97", "expected 0 to 1. Is it in percent. Then divide the values"),
        ("dice", "101", "expected 0 to 1$"),
        ("dice", "-0.1", "expected 0 to 1$"),
        ("dice", "inf", "expected 0 to 1$"),
        ("hd95", "-1", "expected 0 or more. Write inf where one of the masks is empty"),
        ("hd95_mm", "-inf", "expected 0 or more"),
        ("volume_difference", "-inf", "expected a number above -inf"),
        ("nsd_2mm", "1.5", "expected 0 to 1. Is it in percent"),
    ],
)
def test_a_value_outside_its_metrics_range(tmp_path, metric, value, message):
    path = write(tmp_path, HEAD + f"A,c1,heart,{metric},0.5\nB,c7,heart,{metric},{value}\n")
    place = f"m.csv: row 3: case c7: {metric} of heart by model B is {value}; "
    with pytest.raises(InputError, match=place + message):
        read_values(path)


def test_a_dice_of_one_in_single_precision_is_one(tmp_path):
    assert values(write(tmp_path, TWO.replace("0.85", repr(float(1 + 2**-23))))) == [1, 0.75]


def test_a_column_a_metric(tmp_path):
    text = (
        "model;case;structure;subject;Dice;HD95 (mm)\nA;c1;heart;s1;0,8;3\nA;c2;heart;s2;0,7;inf\n"
    )
    found = read_values(write(tmp_path, text))
    assert found[["case", "subject", "metric", "value"]].values.tolist() == [
        ["c1", "s1", "dice", 0.8],
        ["c2", "s2", "dice", 0.7],
        ["c1", "s1", "hd95_mm", 3],
        ["c2", "s2", "hd95_mm", INF],
    ]
    with pytest.raises(InputError, match="row 3: case c2: Dice of heart by model A is 1,7"):
        read_values(write(tmp_path, text.replace("0,7", "1,7")))
    with pytest.raises(
        InputError, match=r"metrics 'age', 'Dice heart': not known.*Take out columns"
    ):
        read_values(write(tmp_path, "model,case,structure,age,Dice heart\nA,c1,s,50,0.5\n"))


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (["dice"], ["dice"]),
        (["iou", "recall", "hd95_mm", "dice"], ["dice", "hd95_mm", "recall"]),
        (["iou", "nsd_2mm", "nsd_1mm"], ["nsd_2mm", "nsd_1mm"]),
        (["iou", "hd_mm"], ["iou", "hd_mm"]),
    ],
)
def test_what_is_compared_by_default_is_what_the_table_has(present, chosen):
    table = pd.DataFrame({"metric": present})
    assert Statistics().metrics == "auto"
    assert chosen_metrics(table, Statistics().metrics) == chosen
    with pytest.raises(InputError, match="'assd_mm' was not measured"):
        chosen_metrics(table, Statistics(metrics=("assd_mm",)).metrics)


def test_metrics_may_be_named_as_others_do():
    assert Statistics(metrics=("Dice", "HD95", "nsd")).metrics == ("dice", "hd95_mm", "nsd")
    with pytest.raises(ValueError, match=r"'foo': not known.*statistics\.directions"):
        Statistics(metrics=("foo",))
    assert Statistics(directions={"foo": "lower"}, metrics=("foo",)).metrics == ("foo",)
    with pytest.raises(ValueError, match="'dice': found 'lower', but it is known as dice"):
        Statistics(directions={"dice": "lower"})


# --- one model a file ----------------------------------------------------------------------------


def test_a_table_without_a_model_is_named_on_the_command_line(tmp_path):
    one = write(tmp_path, TWO.replace("model,", "").replace("A,", ""), "one.csv")
    other = write(tmp_path, "case,structure,Dice\nc1,heart,0.9\n", "lr=0.1.csv")
    found = read_tables([f"a={one}", f"b=2={other}"])
    assert found[["model", "value"]].values.tolist() == [["a", 0.85], ["a", 0.75], ["b=2", 0.9]]
    with pytest.raises(InputError, match="has a column 'model'; give such a table without MODEL="):
        read_tables([f"a={write(tmp_path, TWO)}"])


def test_which_part_of_a_source_is_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TWO.replace("model,", "").replace("A,", "")
    write(tmp_path, text, "f.csv")
    assert set(read_tables(["lr=0.1=f.csv"])["model"]) == {"lr=0.1"}
    with pytest.raises(InputError, match="a=g.csv: no such file: neither a=g.csv nor g.csv"):
        read_tables(["a=g.csv"])
    with pytest.raises(InputError, match="no name of a model before '='"):
        read_tables(["=f.csv"])
    with pytest.raises(InputError, match="g.csv: no such table"):
        read_tables(["g.csv"])
    write(tmp_path, text, "0.1=f.csv")
    with pytest.raises(
        InputError, match="model lr and file 0.1=f.csv or model lr=0.1 and file f.csv"
    ):
        read_tables(["lr=0.1=f.csv"])
    write(tmp_path, TWO, "lr=2=f.csv")
    assert set(read_tables(["lr=2=f.csv"])["model"]) == {"A"}


def test_cases_with_one_file_name_are_told_apart_by_their_folders(tmp_path):
    path = write(tmp_path, "filename\theart\n/x/p1/seg.nii.gz\t0.5\n/x/p2/seg.nii.gz\t0.6\n",
                 "val_mean_dice_raw.csv")  # fmt: skip
    assert read_tables([f"a={path}"])["case"].tolist() == ["p1/seg", "p2/seg"]


def test_names_of_classes_and_metric_in_a_table_of_monai(tmp_path):
    path = write(tmp_path, "filename,Heart,mean\nC1.nii.gz,3,3\n", "val_hausdorff_distance_raw.csv")
    found = read_tables([f"a={path}"]).iloc[0]
    assert found[["case", "structure", "metric", "value"]].tolist() == ["C1", "Heart", "hd_mm", 3]
    with pytest.raises(InputError, match="file's name is that of MONAI's metric: metric 'loss2'"):
        read_tables([f"a={write(tmp_path, path.read_text(), 'loss2_raw.csv')}"])
    with pytest.raises(InputError, match="no column of a class"):
        read_tables([f"a={write(tmp_path, 'filename,mean', 'mean_dice_raw.csv')}"])


# --- undefined distances -------------------------------------------------------------------------


def monai(folder, name, column):
    rows = [f"/x/c{n}.nii.gz,{value}" for n, value in enumerate(column)]
    return f"m={write(folder, 'filename,heart' + chr(10) + chr(10).join(rows) + chr(10), name)}"


def test_an_undefined_distance_by_the_dice_beside_it(tmp_path, caplog):
    distance = monai(tmp_path, "hd95_raw.csv", ["2.5", "nan", "nan", "nan", "inf"])
    dice = monai(tmp_path, "mean_dice_raw.csv", ["0.8", "0", "nan", "1", "0"])
    found = read_tables([distance, dice]).query("metric == 'hd95_mm'")
    np.testing.assert_equal(found["value"].tolist(), [2.5, INF, NAN, NAN, INF])
    assert "1 undefined distances are taken as infinite" in caplog.text


@pytest.mark.parametrize(
    ("dice", "message"),
    [
        (None, "it is not known whether one mask is empty.*MODEL=mean_dice_raw.csv"),
        (["0.8", "0.7"], "both masks are there"),
    ],
)
def test_an_undefined_distance_that_cannot_be_told(tmp_path, dice, message):
    sources = [monai(tmp_path, "hd95_raw.csv", ["2.5", "nan"])]
    sources += [monai(tmp_path, "mean_dice_raw.csv", dice)] if dice else []
    with pytest.raises(
        InputError, match=f"hd95_mm of heart by model m is undefined in case c1.*{message}"
    ):
        read_tables(sources)


@pytest.mark.parametrize(
    ("sizes", "status", "expected"),
    [
        ((10, 0), "", INF),
        ((0, 10), "", INF),
        ((0, 0), "", NAN),
        ((10, ""), "", INF),
        ((0, ""), "", NAN),
        ((10, 12), "", None),
        (("", 12), "", None),
        (("", ""), "", None),
        (("", ""), "pred_empty", INF),
        (("", ""), "ref_empty", INF),
        (("", ""), "both_empty", NAN),
        ((10, 0), "missing_file", NAN),
    ],
)
def test_an_undefined_distance_by_the_masks_sizes(tmp_path, sizes, status, expected):
    head = "n_reference_voxels,n_predicted_voxels,status," + HEAD
    text = head + f"{sizes[0]},{sizes[1]},{status},A,c1,heart,assd_mm,\n"
    path = write(tmp_path, text)
    if expected is None:
        with pytest.raises(
            InputError, match="m.csv: assd_mm of heart by model A is undefined in case c1"
        ):
            read_tables([path])
    else:
        np.testing.assert_equal(read_tables([path])["value"].tolist(), [expected])


def test_sizes_of_the_reference_count_for_all_models(tmp_path):
    head = "n_reference_voxels,n_predicted_voxels," + HEAD
    text = head + "10,9,A,c1,heart,hd_mm,3\n,,B,c1,heart,hd_mm,nan\n"
    assert read_tables([write(tmp_path, text)])["value"].tolist() == [3, INF]


# --- nnU-Net -------------------------------------------------------------------------------------


def nnunet(path, **changes):
    found = {"Dice": 0.8, "IoU": 2 / 3, "TP": 80, "n_pred": 100, "n_ref": 100} | changes
    case = {
        "metrics": {"1": found},
        "reference_file": "/l/c1.nii.gz",
        "prediction_file": "/p/c1.nii.gz",
    }
    path.write_text(json.dumps({"metric_per_case": [case]}))
    return path


def test_voxels_of_nnunet(tmp_path):
    found = read_tables([f"m={nnunet(tmp_path / 's.json', n_pred=0, TP=0, Dice=0, IoU=0)}"])
    assert (found[["n_reference_voxels", "n_predicted_voxels"]] == [100, 0]).all(axis=None)
    assert found["case"].unique().tolist() == ["c1"]
    row = found.set_index("metric")["value"]
    np.testing.assert_equal(row["precision"], NAN)
    assert (row["dice"], row["recall"], row["relative_volume_error"]) == (0, 0, -1)


@pytest.mark.parametrize(
    "changes",
    [
        {"Dice": None}, {"Dice": "high"}, {"n_ref": -1}, {"n_ref": "x"}, {"n_pred": NAN}, {"TP": []},
        {"n_ref": INF}, {"n_ref": 10.5},
    ],
)  # fmt: skip
def test_a_damaged_summary_of_nnunet(tmp_path, changes):
    with pytest.raises(InputError, match="not a summary.json of nnU-Net"):
        read_tables([f"m={nnunet(tmp_path / 's.json', **changes)}"])
    with pytest.raises(InputError, match="names no model; give it as MODEL="):
        read_tables([nnunet(tmp_path / "s.json")])
    with pytest.raises(InputError, match="dice of 1 by model m is 80.0; expected 0 to 1. Is it in"):
        read_tables([f"m={nnunet(tmp_path / 's.json', Dice=80.0)}"])


# --- the command ---------------------------------------------------------------------------------


def compared(folder, sources, **given):
    words = ["statistics", "--metrics", *map(str, sources), "--output", str(folder / "s")]
    return main([*words, "--settings", json.dumps({"bootstrap_samples": 100, **given})])


def test_dice_alone_and_a_summary_of_nnunet_go_at_the_defaults(tmp_path):
    rows = [f"{m},c{n},s,dice,{0.1 * n + x}\n" for m, x in (("A", 0.1), ("B", 0)) for n in range(6)]
    assert compared(tmp_path, [write(tmp_path, HEAD + "".join(rows))]) == 0
    assert set(pd.read_csv(tmp_path / "s" / "tests.csv")["metric"]) == {"dice"}
    both = [f"{m}={nnunet(tmp_path / f'{m}.json')}" for m in "AB"]
    assert compared(tmp_path, both) == 0
    assert set(pd.read_csv(tmp_path / "s" / "tests.csv")["metric"]) == {
        "dice",
        "precision",
        "recall",
    }


@pytest.mark.parametrize(
    ("metric", "directions"),
    [("HD95", {}), ("hausdorff", {}), ("masd", {}), ("rmse", {}), ("fp_volume", {}),
     ("my score", {"my score": "lower"}), ("my score", {"My_Score": "zero"})],
)  # fmt: skip
def test_the_smaller_one_comes_first(tmp_path, metric, directions):
    rows = [
        f"{m},c{n},s,{metric},{x + 0.3 * n}\n" for m, x in (("A", 1), ("B", 2)) for n in range(8)
    ]
    path = write(tmp_path, HEAD + "".join(rows))
    assert compared(tmp_path, [path], directions=directions) == 0
    ranks = pd.read_csv(tmp_path / "s" / "ranking.csv").set_index("model")["mean_rank"]
    assert (ranks["A"], ranks["B"]) == (1, 2)
    assert pd.read_csv(tmp_path / "s" / "tests.csv")["share_a_better"].tolist() == [1]
    if directions:
        assert compared(tmp_path, [path]) == 1


# --- anything at all -----------------------------------------------------------------------------

PIECES = ["model", "value", "filename", "A", "dice", "hd95", "0.5", "-1", "1e5", "inf", "nan", "é", "", " ",
          ",", ";", "\t", '"', "\n", "\r", "=", ".", "88,9", "0,5", "%", "\0"]  # fmt: skip
BASES = [TWO, TWO.replace(",", ";").replace(".", ","), "model,case,structure,Dice\nA,c,s,0.5\n",
         "filename,heart,mean\nc1.nii,0.5,0.5\n", "n_reference_voxels," + HEAD + "3,A,c,s,hd95,nan\n"]  # fmt: skip


@st.composite
def mutated(draw):
    text = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 6)))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[end:]
    return text


@settings(deadline=None, max_examples=300)
@given(mutated(), st.sampled_from(["", "m="]), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
@example("sep=;\n", "", "utf-8")
@example("model,model=\n", "m=", "utf-8")
def test_a_damaged_table_is_read_or_refused(text, model, encoding):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mean_dice_raw.csv"
        path.write_bytes(text.encode(encoding, "replace"))
        try:
            found = read_tables([f"{model}{path}"])
        except InputError as error:
            assert str(path) in str(error)
            return
    assert len(found)
    assert not (found["value"] == -INF).any()
    assert not found.duplicated(
        ["model", "case", "structure", "metric", "dataset", "fold", "seed"]
    ).any()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metric_per_case", "metrics", "1", "Dice", "reference_file"]), inner
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(json_values, st.sampled_from(["top", "cases", "case", "metrics", "Dice", "TP", "n_ref"]))
def test_a_damaged_summary_is_read_or_refused(value, where):
    found = {"Dice": 0.8, "IoU": 0.7, "TP": 80, "n_pred": 100, "n_ref": 100}
    found = value if where == "metrics" else found | ({where: value} if where in found else {})
    case = value if where == "case" else {"metrics": {"1": found}, "prediction_file": "c.nii"}
    top = value if where == "top" else {"metric_per_case": value if where == "cases" else [case]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "summary.json"
        path.write_text(json.dumps(top))
        with contextlib.suppress(InputError):
            assert len(read_tables([f"m={path}"]))
