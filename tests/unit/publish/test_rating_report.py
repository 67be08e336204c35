"""The page for raters, and what figures, report, methods and settings say of ratings and of changed places."""

import html
import json
import re
import subprocess
from types import SimpleNamespace

import builder
import pandas
import pytest
import yaml
from test_browser import BROWSER, QUIET
from test_figures import check_texts

from segstudy import correction_records
from segstudy.files import write_json, write_table
from segstudy.images.checksum import label_checksum
from segstudy.images.files import read_label
from segstudy.jobs import slices
from segstudy.publish import anonymous, corrected, ratings, redaction, style
from segstudy.publish.catalogue import figures
from segstudy.publish.drawing import draw
from segstudy.publish.methods import methods
from segstudy.publish.rating import write_rating_page
from segstudy.publish.results import Results
from segstudy.publish.settings_file import write_resolved, write_settings
from segstudy.publish.views import ViewCache
from segstudy.rating_files import COLUMNS, GRADES, letters, read_key, read_ratings, resolved
from segstudy.review import accounting
from segstudy.review import ratings as counting
from segstudy.study import Study, read_study

MODELS = ("enet", "unet_3d", "attention")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """Three models, rated by two readers, and the place of two models changed by corrected labels."""
    root = tmp_path_factory.mktemp("rated") / "tiny"
    asked = {"cases": 3, "seed": 5, "files": ["/home/somebody/ratings-anna.csv"]}
    folder = root.parent / "tiny.corrections"
    changed = {"heart": {"old": 9, "new": 8, "added": 0, "removed": 1}}
    entry = correction_records.entry(
        "corrected", "Ada", "cut", old_voxels="a", new_voxels="b", new_file="c", changed=changed
    )
    correction_records.append(folder, "thorax", "case_001", entry)
    study = builder.study(models=MODELS, repair=False, ratings=asked, corrections=str(folder))
    builder.build(root, study, cases=5)
    found = Results(study, root)
    write_rating_page(found, root / "rating", root / "review/rating_key.csv")
    _rate(found)
    return found


def _rate(results: Results) -> None:
    """Write the tables of ratings: rater 2 calls usable what rater 1 calls good, but for `enet`, which both call bad."""
    key = read_key(results.root / "review/rating_key.csv")
    rows = [
        ("thorax", one.case, one.subject, one.model, one.fold, one.seed, rater, "bad" if one.model == "enet" else grade, "", 0.9)
        for one in key
        for rater, grade in (("rater 1", "good"), ("rater 2", "usable"))
    ]  # fmt: skip
    given = pandas.DataFrame(rows, columns=counting.GIVEN)
    folder = results.root / "review/ratings"
    write_table(folder / "ratings.csv", counting.counts(given))
    write_table(folder / "agreement.csv", counting.agreement(given, 1))
    write_table(folder / "dice.csv", counting.by_dice(given))


def with_accounting(results: Results, monkeypatch) -> dict:
    """Write results under both labels: under corrected ones the first two places are exchanged."""
    old = results.ranking
    new = old.copy()
    first, second = (old["model"] == name for name in MODELS[:2])
    new.loc[first, "mean_rank"], new.loc[second, "mean_rank"] = (
        old.loc[second, "mean_rank"].to_numpy(),
        old.loc[first, "mean_rank"].to_numpy(),
    )
    summary = {"delivered": results.summary, "corrected": results.summary}
    tables = {
        "means": accounting.side_by_side(summary),
        "ranks": accounting.rank_changes({"delivered": old, "corrected": new}),
        "comparisons": pandas.DataFrame([("thorax",)], columns=["dataset"]),
        "effects": pandas.DataFrame(columns=list(accounting.EFFECTS)),
        "changes": pandas.DataFrame(
            [("thorax", "heart", 5, 1, 1, 1, 0.2, 9, 1, 100, 0.1)], columns=accounting.CHANGES
        ),
        "faults": pandas.DataFrame(
            [("thorax", "all", 5, 1, 1, None, 0.2, 1.0)], columns=accounting.FAULTS
        ),
    }
    for name, table in tables.items():
        write_table(results.root / f"review/corrections/{name}.csv", table)
    write_json(results.root / "review/corrections/accounting.json", {"sentences": ["One."], "source": "exact"})  # fmt: skip
    # The record names a label that no test needs.
    monkeypatch.setattr("segstudy.publish.results.corrected", lambda folder, dataset: {"case_001": 1})  # fmt: skip
    results.__dict__.pop("corrections", None)
    return tables


def drawn(results: Results, kind: str):
    figure = next(one for one in figures(results.study) if one.kind == kind)
    with style.paper(results.study.publish.style):
        drawing = draw(results, figure, ViewCache(results))
        style.settle(drawing.figure)
    check_texts(results, (kind,))
    return drawing


def test_the_page_names_no_model_and_shows_no_reference(results):
    folder = results.root / "rating"
    key = read_key(results.root / "review/rating_key.csv")
    assert len(key) == 3 * len(MODELS) and {one.model for one in key} == set(MODELS)
    scripts = sorted(folder.glob("thorax-*.js"))
    assert len(scripts) == 3
    page = (folder / "index.html").read_text()
    for text in (page, *(path.read_text() for path in scripts)):
        assert not [word for word in (*MODELS, '"reference"', "report.html") if word in text]
    for one in key:
        script = (folder / f"thorax-{one.case}.js").read_text()
        assert f'"{one.code}": "' in script and one.prediction in page
        label = read_label(results.prediction(one.model, one.fold, one.seed, "thorax", one.case))
        assert label_checksum(label) == one.prediction
    [own] = {tuple(sorted(one.code for one in key if one.case == case)) for case in [key[0].case]}
    shown = [one for one in key if one.case == key[0].case]
    assert [one.code for _, one in letters(shown)] == list(own)
    assert all(f'"{name}"' in page for name in COLUMNS)
    assert all(f'value="{grade}"' in page for grade in GRADES)


VIEWER = """<script>
const niivue = {
  Niivue: class { volumes = []; attachToCanvas() {} setSliceType() {} setOpacity() {} addVolume() {} removeVolume() {} },
  NVImage: { loadFromBase64: async () => ({ setColormapLabel() {} }) },
};
</script>"""
READER = """<script>
const rate = (grade, remark) => {
  const input = document.querySelector(`input[value=${grade}]`);
  input.checked = true;
  input.dispatchEvent(new Event("change"));
  field("remark").value = remark;
  field("remark").dispatchEvent(new Event("input"));
};
const pause = () => new Promise((done) => setTimeout(done, 20));
addEventListener("load", async () => {
  const found = { errors: [] };
  try {
    let saved;
    URL.createObjectURL = (blob) => { saved = blob; return "#"; };
    HTMLAnchorElement.prototype.click = function () { found.name = this.download; };
    await pause();
    found.closed = field("grades").disabled;
    found.choices = [...field("label").options].map((one) => one.textContent);
    field("rater").value = "Anna B.";
    field("rater").dispatchEvent(new Event("input"));
    rate("good", 'the "apex", cut');
    field("next").click();
    await pause();
    found.second = field("which").textContent;
    rate("bad", "");
    field("save").click();
    found.csv = await saved.text();
    found.count = field("count").textContent;
    field("rater").value = "Ben";
    field("rater").dispatchEvent(new Event("input"));
    found.of_another = [...document.querySelectorAll("input[name=grade]")].some((one) => one.checked);
    field("rater").value = "anna b";
    field("rater").dispatchEvent(new Event("input"));
    found.kept = document.querySelector("input[name=grade]:checked").value;
  } catch (error) { found.errors.push(String(error.stack)); }
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium")
def test_what_a_reader_saves_is_read_back_with_the_models(results, tmp_path):
    """In a browser, with a stand-in for NiiVue: two predictions of the first case are rated and saved."""
    page = (results.root / "rating/index.html").read_text()
    page = page.replace('<script src="niivue.umd.js"></script>', VIEWER)
    (tmp_path / "page.html").write_text(page.replace("</body>", READER))
    done = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))  # fmt: skip
    assert found["errors"] == []
    assert found["closed"] and not found["of_another"] and found["kept"] == "bad"
    assert found["choices"] == ["prediction A", "prediction B", "prediction C"]
    assert (found["name"], found["count"]) == ("ratings-anna-b.csv", "2 of 9 rated")
    (tmp_path / "saved.csv").write_text(found["csv"])
    key = read_key(results.root / "review/rating_key.csv")
    pairs = resolved(read_ratings([tmp_path / "saved.csv"]), key, "tiny")
    expected = [one for _, one in letters([one for one in key if one.case == key[0].case])][:2]
    assert [shown for _, shown in pairs] == expected
    assert found["second"] == f"Prediction B of {key[0].case}"
    assert [(one.rater, one.grade, one.remark) for one, _ in pairs] == [
        ("Anna B.", "good", 'the "apex", cut'),
        ("Anna B.", "bad", ""),
    ]


def test_the_figure_of_ratings_has_all_numbers(results):
    drawing = drawn(results, "ratings")
    whole = drawing.table[drawing.table["rater"] == "all"].set_index("model")
    assert tuple(whole.loc["enet", list(GRADES)]) == (0, 0, 6)
    assert tuple(whole.loc["unet_3d", list(GRADES)]) == (3, 3, 0)
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert texts.count("n\u00a0=\u00a03") == 6 and texts.count("n\u00a0=\u00a06") == 3
    assert "2 readers" in drawing.caption


def test_report_and_methods_say_what_was_rated(results, monkeypatch):
    with_accounting(results, monkeypatch)
    shown = ratings.shown(results)
    assert shown["lead"] == (
        "2 readers gave 18 ratings; good or usable: enet 0 of 6, unet_3d 6 of 6 and attention 6 of 6."
    )
    counts, agreement, dice = shown["tables"]
    assert [len(one["rows"]) for one in (counts, agreement, dice)] == [9, 1, 3]
    assert all(len(row) == len(one["head"]) for one in shown["tables"] for row in one["rows"])
    assert agreement["rows"][0][4].text == "33 %"
    told = dict(methods(results))["Ratings by readers"]
    assert "2 readers rated predictions of cases drawn at random (seed 5) (3 of thorax)" in told
    assert "Cohen's kappa" in told and "rater 1 and rater 2" in told


def test_places_that_change_are_drawn_and_told(results, monkeypatch):
    tables = with_accounting(results, monkeypatch)
    drawing = drawn(results, "rank_changes")
    own = tables["ranks"]
    own = own[(own["metric"] == "dice") & (own["moved"] != 0)]
    assert len(own) and drawing.alt.count(" from ") == len(own)
    bold = {text.get_text() for axes in drawing.figure.axes for text in axes.texts if text.get_fontweight() == "bold"}  # fmt: skip
    for row in own.itertuples():
        assert {f"{row.place_delivered} {row.model}", f"{row.place_corrected} {row.model}"} <= bold
    shown = corrected.corrections_shown(results)
    by_name = {one["name"]: one for one in shown["shown"]}
    assert "corrections-effects" not in by_name  # nothing is known of before
    metrics = {row[3].text for row in by_name["corrections-means"]["rows"]}
    assert {"Dice", "HD95 (mm)"} <= metrics
    assert any("NSD" in one for one in metrics) == ("nsd" in str(results.summary["metric"].unique()))  # fmt: skip
    [row] = by_name["corrections-changes"]["rows"]
    assert [one.text for one in row] == ["thorax", "Heart", "1", "20.0 %", "9", "1", "10.0 %"]
    assert by_name["corrections-faults"]["rows"][0][5].text == "–"


def test_a_study_without_ratings_and_corrections_stays_as_it_was(results):
    bare = results.study.model_copy(update={"ratings": None, "corrections": None})
    kinds = {one.kind for one in figures(bare)}
    assert not kinds & {"ratings", "rank_changes"}
    assert ratings.shown(Results(bare, results.root)) == {"lead": ""}
    assert "ratings" not in yaml.safe_load(redaction.settings_yaml(bare))


def test_files_of_ratings_stay_out_of_what_is_published_and_change_figures_alone(results):
    study = results.study
    assert yaml.safe_load(redaction.settings_yaml(study))["ratings"] == {"files": [], "cases": 3, "seed": 5}  # fmt: skip
    more = study.ratings.model_copy(update={"files": ("a.csv", "b.csv")})
    other = study.model_copy(update={"ratings": more})
    for settings in (slices.figure_settings, slices.rating_page_settings, slices.viewer_settings):
        assert settings(other) == settings(study)
    none = study.model_copy(update={"ratings": None})
    assert slices.viewer_settings(none) == slices.viewer_settings(study)
    assert slices.figure_settings(none) != slices.figure_settings(study)
    assert figures(slices.figure_settings(study)) == figures(study)


def test_the_study_file_takes_files_from_its_folder(tmp_path):
    content = yaml.safe_load(builder.study(models=("enet",), repair=False).model_dump_json())
    content["datasets"]["thorax"]["source"]["path"] = "table.tsv"
    file = tmp_path / "tiny.yaml"
    content = {key: content[key] for key in ("datasets", "models")}
    content["datasets"] = {"thorax": {key: content["datasets"]["thorax"][key] for key in ("source", "modality", "structures")}}  # fmt: skip
    content["models"] = {"enet": {"network": "enet"}}
    file.write_text(yaml.safe_dump({**content, "ratings": {"files": ["ratings-anna.csv"]}}))
    study: Study = read_study(file)
    assert study.ratings.files == (str(tmp_path / "ratings-anna.csv"),)
    assert (study.ratings.cases, study.ratings.seed) == (20, 20)


def test_the_zip_names_no_file_of_ratings_and_no_folder_of_corrections(results, tmp_path):
    """Corrections that lie beside the study file are not in it, which is no other study."""
    content = {
        "name": "tiny",
        "datasets": {
            "thorax": {
                "source": {"layout": "table", "path": "table.tsv"},
                "modality": "CT",
                "structures": {"heart": 1, "aorta": 2},
            }
        },
        "models": {"enet": {"network": "enet"}},
        "ratings": {"cases": 3, "files": ["ratings-anna.csv"]},
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    ran = read_study(file).model_copy(update={"corrections": str(tmp_path / "tiny.corrections")})
    written = tmp_path / "zip" / "settings.yaml"
    written.parent.mkdir()
    write_settings(written, ran, file, lambda text: False)
    assert "anna" not in written.read_text()
    assert read_study(written).ratings.cases == 3
    write_resolved(tmp_path / "zip" / "settings.resolved.yaml", ran, written)
    resolved = (tmp_path / "zip" / "settings.resolved.yaml").read_text()
    assert "anna" not in resolved and str(tmp_path) not in resolved
    with_folder = tmp_path / "named.yaml"
    with_folder.write_text(yaml.safe_dump({**content, "corrections": "mine"}, sort_keys=False))
    gaps = write_settings(written, read_study(with_folder), with_folder, lambda text: False)
    assert "`corrections` is (corrected labels)" in gaps and "mine" not in written.read_text()


def test_anonymous_results_have_ratings_without_names(results, tmp_path, monkeypatch):
    with_accounting(results, monkeypatch)
    monkeypatch.setattr("segstudy.publish.anonymous._link", lambda *_: None)
    (results.root / "review/ratings/given.csv").write_text("rater,case\nanna,case_001\n")
    numbers = anonymous.numbered(results)
    leaks = SimpleNamespace(find=lambda text: [])
    anonymous.anonymised(results, numbers, leaks, tmp_path / "tiny")
    own = tmp_path / "tiny/review/ratings"
    assert {path.name for path in own.iterdir()} == {"ratings.csv", "agreement.csv", "dice.csv"}
    assert pandas.read_csv(own / "ratings.csv").equals(
        pandas.read_csv(results.root / "review/ratings/ratings.csv")
    )
