"""Published figures: every number can be what it is called, or its remark says why it is not."""

import math
import re

import builder
import pytest

from segstudy import metric
from segstudy.errors import InputError
from segstudy.publish.published import COLUMNS, PLAIN, published_table, read_published
from segstudy.publish.results import Results

STUDIES = {"segthor", "hippocampus", "brain_tumour", "oasis_slices", "low_data_brain"}
RANGES = {
    "dice_t": (-50, 50),
    "recall_t": (-50, 50),
    "assd_u": (0, 40 * 40),
    "angle_deg": (-180, 180),
    "parameters": (1, math.inf),
}
TABLE = read_published()


def test_every_reference_study_is_there_with_its_source():
    assert set(TABLE["study"]) == STUDIES
    assert (TABLE["source"] != "").all()
    assert not TABLE.duplicated(
        ["study", "dataset", "model", "structure", "metric", "source"]
    ).any()


@pytest.mark.parametrize(
    "row", list(TABLE.itertuples()), ids=lambda row: f"{row.study}-{row.Index}"
)
def test_a_number_is_in_range_or_its_remark_says_why_not(row):
    if math.isnan(row.value):
        assert row.remark.startswith("not repeated here: ")
        return
    assert (row.metric in PLAIN) == (row.metric in RANGES)
    unit = {"angle_deg": "deg"}.get(row.metric, "")
    if row.metric in PLAIN:
        low, high = RANGES[row.metric]
    else:
        what = metric.find(row.metric)
        low, high, unit = what.low, what.high, what.unit
    assert low <= row.value <= high or row.remark.startswith("out of range: ")
    assert row.unit == unit
    # A share of several percent that stands as a percentage would pass as a bare number.
    printed = re.search(r"printed as ([0-9.]+) %", row.remark)
    assert not printed or row.value == pytest.approx(float(printed[1]) / 100)


def test_a_dice_too_good_for_the_hippocampus_is_called_what_it_is():
    high = TABLE[(TABLE["study"] == "hippocampus") & (TABLE["metric"] == "dice")]
    high = high[high["value"] > 0.93]
    assert len(high) == 1
    assert high["remark"].str.startswith("no Dice").all()


def test_ours_stands_beside_the_same_model_structure_and_metric(plain, tmp_path):
    lines = [
        ",".join(COLUMNS),
        "tiny,thorax,enet,heart,dice,0.5,,a paper,",
        "tiny,thorax,enet,spleen,dice,0.7,,a paper,another organ",
        "tiny,thorax,enet,heart,nsd,,,a paper,not repeated here: leaves its range",
        "other,thorax,enet,heart,dice,0.9,,a paper,",
    ]
    path = tmp_path / "published.csv"
    path.write_text("\n".join(lines) + "\n")
    rows = published_table(plain, path)["rows"]
    summary = plain.summary.set_index(["dataset", "model", "structure", "metric"])["mean"]
    ours = summary["thorax", "enet", "heart", "dice"]
    assert [row[4].text for row in rows] == ["0.5", "0.7", "–"]
    assert [row[5].text for row in rows] == [f"{ours:.3f}", "–", "–"]
    assert rows[1][6].text == "another organ"


def test_ours_of_all_structures_a_repair_and_a_network(plain, tmp_path):
    missed = plain.summary[plain.summary["n_infinite"] > 0].query("metric == 'hd95_mm'")
    model = missed["model"].iloc[0]
    lines = [
        ",".join(COLUMNS),
        f"tiny,thorax,{model},all,dice,0.5,,a paper,",
        f"tiny,thorax,{model},all,hd95_mm,5,mm,a paper,infinite distances were dropped",
        f"tiny,thorax,{model},,parameters,1000,,a paper,",
        "tiny,thorax,label repair,heart,angle_deg,-26.6,deg,a paper,",
        "tiny,thorax,label repair,heart,iou,0.9,,a paper,",
        "tiny,thorax,someone's,all,dice,0.5,,a paper,",
    ]
    path = tmp_path / "published.csv"
    path.write_text("\n".join(lines) + "\n")
    texts = [row[5].text for row in published_table(plain, path)["rows"]]
    own = plain.summary[(plain.summary["dataset"] == "thorax") & (plain.summary["model"] == model)]
    own = own[own["structure"].isin(plain.study.structures)].groupby("metric")
    infinite = int(own["n_infinite"].sum()["hd95_mm"])
    assert infinite > 0
    moved = plain.transform("thorax")
    assert texts == [
        f"{own['mean'].mean()['dice']:.3f}",
        f"{own['mean'].mean()['hd95_mm']:.2f} ({infinite} ∞ left out)",
        f"{plain.trained(model, 0, 0)['parameters']:,}",
        f"{moved['angle_deg']:.3f}".replace("-", "−"),
        f"{moved['iou_after']:.3f}",
        "–",
    ]


def test_a_variant_of_a_study_shows_what_was_published_of_it(plain, tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(",".join(COLUMNS) + "\ntiny,thorax,enet,heart,dice,0.5,,a paper,\n")
    for name, shown in (("tiny_grid", 1), ("tinygrid", 0)):
        variant = Results(plain.study.model_copy(update={"name": name}), plain.root)
        assert len(published_table(variant, path)["rows"]) == shown


def test_a_study_of_which_nothing_was_published_has_no_rows(plain):
    assert published_table(plain)["rows"] == []


def test_a_wrong_table_is_named(tmp_path):
    settings = builder.study(repair=False)
    path = tmp_path / "published.csv"
    path.write_text("study,value\n")
    with pytest.raises(InputError, match="columns study, value; expected study, dataset"):
        published_table(Results(settings, tmp_path), path)
    path.write_text(",".join(COLUMNS) + "\na,b,c,d,dice,about 0.9,,s,\n")
    with pytest.raises(InputError, match="row 2: value is 'about 0.9'"):
        read_published(path)
