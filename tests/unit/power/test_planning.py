"""How many subjects a study needs, by the known answers of the procedure, and what a pilot tells."""

import json

import numpy as np
import pandas as pd
import pytest

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.power.pilot import Cost, components, pilots
from segstudy.power.planning import Goal, power_at, subject_sd, subjects_needed, upper_sd


def test_known_answers():
    assert [subjects_needed(1, Goal(effect=effect)) for effect in (0.5, 0.3)] == [34, 90]
    sd = subject_sd(0.05, 4, 0.6)
    assert sd == pytest.approx(0.041833, abs=1e-6)
    assert subjects_needed(sd, Goal(effect=0.02)) == 37
    upper = upper_sd(0.05, 15)
    assert upper == pytest.approx(0.060802, abs=1e-6)
    assert [subjects_needed(one, Goal(effect=0.02)) for one in (0.05, upper)] == [52, 75]


def test_power_of_equivalence_is_that_of_simulated_studies():
    goal, subjects = Goal(margin=0.5, effect=0.1), 30
    samples = np.random.default_rng(1).normal(0.1, 1, (20_000, subjects))
    reach = 1.699127 * samples.std(axis=1, ddof=1) / np.sqrt(subjects)
    means = samples.mean(axis=1)
    inside = np.mean((means - reach > -0.5) & (means + reach < 0.5))
    assert power_at(subjects, 1, goal) == pytest.approx(inside, abs=0.01)


@pytest.mark.parametrize(
    "goal", [{}, {"effect": 0.1, "power": 1.0}, {"effect": 0.2, "margin": 0.1}]
)
def test_what_no_number_of_subjects_tells_is_refused(goal):
    with pytest.raises(InputError, match="expected"):
        Goal(**goal)


def test_components_of_a_balanced_design():
    """Subjects of two scans: mean squares 8 between and 0.5 within."""
    sd, icc = components(np.array([1, 2, 3, 4, 5, 6.0]), np.array([0, 0, 1, 1, 2, 2]))
    assert (sd, icc) == pytest.approx((np.sqrt(3.75 + 0.5), 3.75 / 4.25))


def test_a_study_tells_sd_icc_and_scans(tmp_path):
    values = pd.DataFrame(
        [
            ("d", "heart", "dice", model, f"c{case}", f"s{case // 2}", 0.5 + shift * case)
            for model, shift in (("a", 0.02), ("b", 0.01))
            for case in range(8)
        ],
        columns=["dataset", "structure", "metric", "model", "case", "subject", "value"],
    )
    values.loc[7, "value"] = np.nan
    (tmp_path / "statistics").mkdir()
    values.to_csv(tmp_path / "statistics/values.csv", index=False)
    (found,) = pilots(tmp_path, "dice")
    assert (found.subjects, found.left_out) == (4, 1)
    assert found.scans == pytest.approx(4 / 2.5)
    with pytest.raises(InputError, match="hd95_mm was not measured there; expected one of dice"):
        pilots(tmp_path, "hd95_mm")


def test_hours_grow_with_the_cases():
    """Ten runs of 12 minutes on 40 cases."""
    assert Cost("a", 10, 12.0, 40, "GPU").hours(80) == 4.0


def test_the_command(capsys, tmp_path):
    words = ["power", "--sd", "0.05", "--effect", "0.02", "--pilot-subjects", "15"]
    assert main([*words, "--json", "--figure", str(tmp_path / "curve.svg")]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert (plan["subjects"], plan["subjects_at_upper_sd"]) == (52, 75)
    assert (tmp_path / "curve.svg").stat().st_size
    assert main(["power", "--sd", "0.05", "--scans-per-subject", "2", "--effect", "0.02"]) == 1
    assert "--icc is missing" in capsys.readouterr().err
