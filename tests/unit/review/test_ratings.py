"""Ratings: codes in place of models, files that readers save, counts, and agreement against published and peer values."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.stats.inter_rater as peer

from segstudy import rating_files as files
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.review import ratings

MODELS = ("enet", "unet")
CASES = [f"p{number}" for number in range(6)]


def key(cases=CASES, models=MODELS) -> list[files.Shown]:
    return [
        files.Shown("chest", case, f"s{case}", files.code_of(3, "chest", case, model), model, 0, 0, f"{case}{model}")
        for case in cases
        for model in models
    ]  # fmt: skip


def saved(path, rows, rater="anna"):
    """Write what the page saves. rows: (case, model, grade), and what differs from what was shown."""
    lines = [",".join(files.COLUMNS)]
    for case, model, grade, *changed in rows:
        row = {
            "study": "tiny",
            "rater": rater,
            "dataset": "chest",
            "case": case,
            "code": files.code_of(3, "chest", case, model),
            "prediction": f"{case}{model}",
            "grade": grade,
            "remark": 'an "apex", cut',
        } | (changed[0] if changed else {})
        lines.append(",".join('"' + row[name].replace('"', '""') + '"' for name in files.COLUMNS))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_letters_have_an_order_of_their_own_in_each_case_and_a_further_model_changes_no_code():
    models = ("a", "b", "c")
    orders = {
        tuple(one.model for _, one in files.letters(key([f"case{number}"], models)))
        for number in range(60)
    }
    assert len(orders) == 6
    assert [letter for letter, _ in files.letters(key(["p1"], models))] == ["A", "B", "C"]
    known = {(one.case, one.model): one.code for one in key()}
    assert known.items() <= {(one.case, one.model): one.code for one in key(models=(*MODELS, "new"))}.items()  # fmt: skip
    firsts = [files.letters(key([f"c{number}"]))[0][1].model for number in range(400)]
    assert 160 < firsts.count("enet") < 240  # within 4 SD of a half


def test_cases_are_drawn_and_a_further_one_displaces_one_at_most():
    names = [f"case{number}" for number in range(30)]
    drawn = files.drawn(3, "chest", names, 10)
    assert len(set(drawn)) == 10 and drawn == files.drawn(3, "chest", reversed(names), 10)
    assert len(set(drawn) - set(files.drawn(3, "chest", [*names, "later"], 10))) <= 1
    assert set(files.drawn(3, "chest", names, "all")) == set(names)
    assert drawn != files.drawn(4, "chest", names, 10)


def test_each_code_is_resolved_to_its_model(tmp_path):
    files.write_key(tmp_path / "key.csv", key())
    shown = files.read_key(tmp_path / "key.csv")
    assert shown == key()
    path = saved(tmp_path / "a.csv", [("p1", "unet", "good"), ("p2", "enet", "bad")])
    found = files.resolved(files.read_ratings([path]), shown, "tiny")
    assert [(one.case, one.model, given.grade) for given, one in found] == [
        ("p1", "unet", "good"),
        ("p2", "enet", "bad"),
    ]
    assert found[0][0].remark == 'an "apex", cut'


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"grade": "fine"}, "line 2: grade 'fine'; expected good, usable, bad"),
        ({"rater": ""}, "line 2: rater is empty"),
        ({"study": "other"}, "a rating of study other; this one is tiny"),
        ({"dataset": "skull"}, "dataset skull is not shown to raters; there are chest"),
        ({"case": "p99"}, "case p99 of chest is not shown to raters"),
        ({"code": "00000000"}, "no model has code 00000000 in case p1 of chest"),
        ({"prediction": "old"}, "another prediction of case p1 of chest was rated than the study has now"),
    ],
)  # fmt: skip
def test_a_rating_that_does_not_fit_is_told_in_a_sentence(tmp_path, changed, told):
    path = saved(tmp_path / "a.csv", [("p1", "unet", "good", changed)])
    with pytest.raises(InputError) as error:
        files.resolved(files.read_ratings([path]), key(), "tiny")
    assert told in str(error.value) and f"{path}, line 2" in str(error.value)


def test_a_prediction_is_rated_once_by_a_rater_over_all_files(tmp_path):
    row = ("p1", "unet", "good")
    paths = [saved(tmp_path / f"{name}.csv", [row]) for name in "ab"]
    with pytest.raises(InputError, match="b.csv, line 2: anna has rated this prediction of case p1 before, in .*a.csv, line 2"):  # fmt: skip
        files.read_ratings(paths)
    saved(paths[1], [row], rater="ben")
    assert len(files.read_ratings(paths)) == 2


@pytest.mark.parametrize("other", ["Anna", " anna.", "ANNA", "-anna"])
def test_raters_whose_names_would_be_one_file_are_told(tmp_path, other):
    """Such are one reader or two, which nobody can tell: their numbers and their kappa would be wrong."""
    saved(tmp_path / "a.csv", [("p1", "unet", "good")])
    saved(tmp_path / "b.csv", [("p2", "unet", "good")], rater=other)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with pytest.raises(InputError, match=f"b.csv, line 2: rater '{other.strip()}' is written as 'anna' in .*a.csv, line 2"):  # fmt: skip
        files.read_ratings(paths)
    for name in ("anna b", "Änna", "anna2"):
        saved(paths[1], [("p2", "unet", "good")], rater=name)
        assert len(files.read_ratings(paths)) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("case;grade\n", "no column 'study'; expected a CSV file with study, rater"),
        (",".join(files.COLUMNS) + "\ntiny,anna\n", "line 2: not as many cells as the header has"),
        ("", "no column 'study'"),
        (",".join(files.COLUMNS) + "\n", "a.csv: no rating in it"),
    ],
)
def test_what_is_no_file_of_ratings_is_told(tmp_path, content, told):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=told):
        files.read_ratings([tmp_path / "a.csv"])
    with pytest.raises(InputError, match="gone.csv: cannot be read"):
        files.read_ratings([tmp_path / "gone.csv"])


def test_kappa_is_that_of_its_definition_and_of_a_peer():
    table = np.array([[7, 0, 1], [1, 5, 0], [1, 2, 3]])
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    distance = np.array([[0, 1, 4], [1, 0, 1], [4, 1, 0]])
    by_hand = 1 - (table * distance).sum() / ((rows[:, None] * columns * distance).sum() / 20)
    assert ratings.kappa(table) == pytest.approx(by_hand)
    draw = np.random.default_rng(0)
    tables = draw.integers(0, 9, (20, 3, 3))
    expected = [peer.cohens_kappa(one, wt="quadratic", return_results=False) for one in tables]
    assert np.allclose(ratings.kappas(tables), expected)
    assert np.isnan(ratings.kappa(np.diag([5, 0, 0])))
    assert ratings.kappa(np.diag([5, 2, 1])) == 1


def test_kappa_is_that_of_a_published_example():
    """Data and value of R's irr 0.84: `kappa2(anxiety[, 2:3], "squared")`, 20 subjects; grades are ranks of the levels in use."""
    second = [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4]
    third = [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2]
    levels = sorted({*second, *third})
    a, b = (np.array([levels.index(one) for one in rater]) for rater in (second, third))
    table = np.zeros((5, 5), int)
    np.add.at(table, (a, b), 1)
    assert ratings.kappa(table) == pytest.approx(0.2520325, abs=5e-8)
    assert ratings.kappas(table[None])[0] == pytest.approx(0.2520325, abs=5e-8)
    # With these weights it is the concordance correlation of the grades (Lin, Biometrics 45 (1989) 255).
    concordance = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)  # fmt: skip
    assert ratings.kappa(table) == pytest.approx(concordance)


def test_counts_agreement_and_dice_of_planted_grades(tmp_path):
    """Ben agrees with Anna but for one case; good predictions have a Dice of 0.9, the others of 0.5."""
    rows = [(case, model, "good" if model == "unet" else "bad") for case in CASES for model in MODELS]  # fmt: skip
    other = [(case, model, "usable" if (case, model) == ("p0", "enet") else grade) for case, model, grade in rows]  # fmt: skip
    given = [saved(tmp_path / "anna.csv", rows), saved(tmp_path / "ben.csv", other, rater="ben")]
    files.write_key(tmp_path / "key.csv", key())
    metrics = pd.DataFrame(
        [
            {"dataset": "chest", "case": case, "model": model, "fold": 0, "seed": 0, "structure": structure, "metric": "dice", "value": value}
            for case in CASES
            for model, dice in (("unet", 0.9), ("enet", 0.5))
            for structure, value in (("heart", dice + 0.05), ("aorta", dice - 0.05), ("both", 0.0))
        ]
    )  # fmt: skip
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    settings = json.dumps({"study": "tiny", "structures": ["heart", "aorta"], "seed": 3})
    words = ["review", "ratings", "--ratings", *map(str, given), "--key", str(tmp_path / "key.csv")]
    words += ["--metrics", str(tmp_path / "metrics.csv"), "--settings", settings, "--output", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0
    tables = {name: pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("given", "ratings", "agreement", "dice")}  # fmt: skip
    counts = tables["ratings"].set_index(["model", "rater"])
    assert tuple(counts.loc[("enet", "rater 2"), ["n_ratings", "n_cases", *files.GRADES]]) == (6, 6, 0, 1, 5)  # fmt: skip
    assert tuple(counts.loc[("enet", "all"), ["n_ratings", "n_cases", *files.GRADES]]) == (12, 6, 0, 1, 11)  # fmt: skip
    [row] = tables["agreement"].to_dict("records")
    assert (row["n_ratings"], row["n_subjects"], row["same_grade"]) == (12, 6, pytest.approx(11 / 12))  # fmt: skip
    table = np.array([[6, 0, 0], [0, 0, 0], [0, 1, 5]])
    assert row["kappa"] == pytest.approx(peer.cohens_kappa(table, wt="quadratic", return_results=False))  # fmt: skip
    assert 0.8 < row["kappa_low"] <= row["kappa"] <= row["kappa_high"] <= 1
    dice = tables["dice"].set_index("grade")
    assert dice.loc["good", "median_dice"] == pytest.approx(0.9)
    assert dice.loc["bad", "median_dice"] == pytest.approx(0.5)
    assert (dice["spearman"] > 0.9).all()
    assert set(tables["given"]["rater"]) == {"anna", "ben"}
    published = " ".join((tmp_path / f"out/{name}.csv").read_text() for name in ("ratings", "agreement", "dice"))  # fmt: skip
    assert "anna" not in published and "apex" not in published


def test_raters_who_share_no_prediction_have_no_kappa(tmp_path):
    given = [
        saved(tmp_path / "a.csv", [("p1", "unet", "good")]),
        saved(tmp_path / "b.csv", [("p2", "unet", "good")], rater="ben"),
    ]
    found = ratings.given(files.resolved(files.read_ratings(given), key(), "tiny"), {})
    [row] = ratings.agreement(found, 3).to_dict("records")
    assert row["n_ratings"] == 0 and np.isnan(row["kappa"]) and np.isnan(row["same_grade"])
    assert ratings.by_dice(found).empty
