"""The steps that the rules call, one after the other, on measured predictions of a corrected cohort."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from builders import AFFINE, HEART, chest, tiny_study, write_cohort
from segstudy.cases import Split, write_splits
from segstudy.cli import main
from segstudy.files import read_json
from segstudy.images.files import write_label
from segstudy.review.accounting import COMPARISONS
from segstudy.study import read_study

KEYS = ["model", "case", "structure", "metric"]


class Measured:
    """Three cases; model `small` predicts the heart without its lowest slices, `whole` all of it. p1's label is corrected to `small`'s."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "results" / "tiny"
        study = tiny_study(write_cohort(folder / "data", 3, moved=False), moved=False)
        self.file = folder / "tiny.yaml"
        self.file.write_text(yaml.safe_dump(study))
        self.corrections = folder / "tiny.corrections"
        self.cases = self.root / "download/chest/cases.tsv"
        self.audit()
        write_splits(
            self.root / "preprocess/splits.tsv",
            [Split("chest", f"p{i}", f"s{i}", 0) for i in range(3)],
        )
        for model in ("small", "whole"):
            for index in range(3):
                place = self.predictions(model) / f"p{index}.nii.gz"
                write_label(place, self.label(index, whole=model == "whole"), AFFINE)
        self.measure()

    @staticmethod
    def label(index: int, *, whole: bool) -> np.ndarray:
        label = chest(index)[1]
        voxels = np.argwhere(label == HEART)
        if not whole:
            label[tuple(voxels[voxels[:, 2] < np.median(voxels[:, 2])].T)] = 0
        return label

    def predictions(self, model: str):
        return self.root / f"infer/{model}/fold-0/seed-0/chest"

    def run(self, *words) -> None:
        assert main([str(word) for word in words]) == 0

    def audit(self) -> None:
        settings = read_study(self.file).datasets["chest"].delivered().to_json()
        has = ["--corrections", self.corrections] if self.corrections.is_dir() else []
        words = ["--cases", self.cases, "--problems", self.cases.with_name("problems.tsv"), *has]
        self.run("download", "audit", "--dataset", "chest", "--settings", settings, *words)

    def measure(self) -> None:
        """Measure and compare, as the rules do."""
        tables, corrected = [], []
        for model in ("small", "whole"):
            columns = {"study": "tiny", "dataset": "chest", "model": model, "fold": 0, "seed": 0}
            settings = {"structures": {"heart": 1, "aorta": 2}}
            tables.append(self.root / f"metrics/{model}.csv")
            more = []
            if self.corrections.is_dir():
                corrected.append(self.root / f"review/measures/{model}.csv")
                more = ["--records", self.corrections, "--corrections", corrected[-1]]
                before = (
                    self.root / "review/before" / self.predictions(model).relative_to(self.root)
                )
                more += ["--before", before] if before.is_dir() else []
            self.run(
                *("metrics", "--cases", self.cases, "--prediction", self.predictions(model)),
                *(
                    "--splits",
                    self.root / "preprocess/splits.tsv",
                    "--fold",
                    0,
                    "--dataset",
                    "chest",
                ),
                *("--settings", json.dumps(settings), "--columns", json.dumps(columns)),
                *("--output", tables[-1], *more),
            )
        metrics = self.root / "metrics/metrics.csv"
        self.run("metrics", "--collect", *tables, "--output", metrics)
        self.run("statistics", "--metrics", metrics, "--output", self.root / "statistics")
        if not corrected:
            return
        about = {"corrections": str(self.corrections), "alpha": 0.05}
        about["datasets"] = {"chest": {"cases": str(self.cases)}}
        settings, other = json.dumps(about), self.root / "review/metrics.csv"
        given = ["--corrected", *corrected, "--settings", settings]
        self.run("review", "metrics", "--metrics", metrics, *given, "--output", other)
        self.run("statistics", "--metrics", other, "--output", self.root / "review/statistics")
        pairs = []
        for name in ("summary", "tests", "ranking"):
            own = [self.root / f"{place}statistics/{name}.csv" for place in ("", "review/")]
            pairs += [f"--{name}", *own]
        before = ["--before", self.root / "review/before/metrics/metrics.csv"]
        output = ["--output", self.root / "review/corrections"]
        self.run("review", "account", "--metrics", metrics, other, *given, *pairs, *before, *output)
        chain = ["--output", self.root / "review/chest/labels.csv"]
        records = ["--corrections", self.corrections]
        self.run("review", "labels", "--dataset", "chest", "--cases", self.cases, *records, *chain)

    def accept(self, case: str, *words) -> None:
        config = ["--config", f"results={self.folder / 'results'}"]
        self.run(
            "review",
            "accept",
            case,
            *words,
            "--study",
            self.file,
            "--why",
            "x",
            "--who",
            "Ada",
            *config,
        )

    def dice(self, table: str) -> pd.Series:
        found = pd.read_csv(self.root / table)
        return found[found["metric"] == "dice"].set_index(KEYS[:3])["value"].sort_index()

    def accounting(self, table: str) -> pd.DataFrame:
        return pd.read_csv(self.root / f"review/corrections/{table}.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Measured:
    return Measured(tmp_path_factory.mktemp("steps"))


def test_results_stand_under_both_labels_and_the_old_ones_count(study):
    old = study.dice("metrics/metrics.csv")
    assert old["whole", "p1", "heart"] == 1
    drawn = study.folder / "drawn.nii.gz"
    write_label(drawn, study.label(1, whole=False), AFFINE)
    study.accept("p1", drawn)
    study.audit()
    study.measure()
    assert study.dice("metrics/metrics.csv").equals(old)
    other = study.dice("review/metrics.csv")
    assert other["small", "p1", "heart"] == 1
    assert other["whole", "p1", "heart"] == pytest.approx(old["small", "p1", "heart"])
    assert other.drop("p1", level="case").equals(old.drop("p1", level="case"))

    means = study.accounting("means")
    means = means[means["metric"] == "dice"].set_index(["model", "structure"])
    gain = (1 - old["small", "p1", "heart"]) / 3
    assert means.loc[("small", "heart"), "difference"] == pytest.approx(gain)
    assert means.loc[("whole", "heart"), "difference"] == pytest.approx(-gain)
    effects = study.accounting("effects")
    effects = effects[effects["metric"] == "dice"].set_index(["model", "structure"])
    assert effects.loc[("small", "heart"), "by_test_labels"] == pytest.approx(gain)
    assert effects["by_training_labels"].abs().max() == 0  # the same predictions
    assert tuple(study.accounting("comparisons")) == COMPARISONS
    ranks = study.accounting("ranks").query("metric == 'dice' and structure == 'heart'")
    assert ranks.set_index("model")["place_delivered"].to_dict() == {"small": 2, "whole": 1}
    told = read_json(study.root / "review/corrections/accounting.json")
    assert told["headline"]["chest"]["labels"] == "delivered"
    faults = study.accounting("faults").set_index("stratum").loc["all"]
    assert (faults["n_reviewed"], faults["n_faulty"]) == (1, 1)
    assert (faults["low"], faults["high"]) == (pytest.approx(1 / 3), 1)

    chain = pd.read_csv(study.root / "review/chest/labels.csv")
    assert chain[["case", "step", "holds"]].values.tolist() == [
        ["p1", "delivered", False],
        ["p1", "corrected", True],
    ]
    assert chain["who"].tolist()[1] == "Ada"


def test_once_all_cases_were_reviewed_the_corrected_labels_count(study):
    for case in ("p0", "p2"):
        study.accept(case, "--unchanged", "--picked-by", "control")
    corrected = study.dice("review/metrics.csv")
    old = study.dice("review/before/metrics/metrics.csv")
    study.measure()
    assert study.dice("metrics/metrics.csv").equals(corrected)
    assert study.dice("review/metrics.csv").equals(old)
    told = read_json(study.root / "review/corrections/accounting.json")
    assert told["headline"]["chest"] == {
        "labels": "corrected",
        "reason": "all 3 cases of chest were reviewed",
    }
    means = study.accounting("means").query("metric == 'dice' and structure == 'heart'")
    assert (means.set_index("model")["difference"] > 0).to_dict() == {"small": True, "whole": False}
    faults = study.accounting("faults").set_index("stratum").loc["all"]
    assert (faults["rate"], faults["low"], faults["high"]) == pytest.approx((1 / 3,) * 3)
