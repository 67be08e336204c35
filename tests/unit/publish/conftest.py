"""Small results folders, built once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import builder

from segstudy.publish.drawing import draw_all
from segstudy.publish.results import Results

LONG_MODELS = (
    "lightweight_unet_with_siren_head_and_deep_supervision",
    "nnunet_3d_fullres_default_plans",
)
LONG_STRUCTURES = (
    "left_inferior_longitudinal_fasciculus",
    "right_inferior_longitudinal_fasciculus",
)
LONG_CASES = [f"sub-patient_with_long_identifier_{number:04d}_session_2_run_1" for number in (1, 2)]


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Results:
    """Two models, two structures, five cases, one prediction missing."""
    settings = builder.study(models=("enet", "unet_3d"))
    return Results(settings, builder.build(tmp_path_factory.mktemp("plain"), settings, cases=5))


@pytest.fixture(scope="session")
def figures_folder(plain: Results, tmp_path_factory) -> Path:
    """All figures of `plain`."""
    folder = tmp_path_factory.mktemp("drawn") / "figures"
    draw_all(plain, folder)
    return folder


@pytest.fixture(scope="session")
def scenario(tmp_path_factory):
    """Results of an awkward study, by name; each built once."""
    built: dict[str, Results] = {}

    def build(name: str) -> Results:
        if name not in built:
            root = tmp_path_factory.mktemp(name)
            settings, further = _scenario(name)
            built[name] = Results(settings, builder.build(root, settings, **further))
        return built[name]

    return build


def _scenario(name: str):
    if name == "one_case":
        return builder.study(), {"cases": 1}
    if name == "all_infinite":
        return builder.study(), {"cases": 4, "infinite": "all"}
    if name == "twelve_models":
        models = [f"unet_variant_{number}" for number in range(12)]
        return builder.study(models=models, repair=False), {"cases": 10}
    if name == "two_sites":
        sites = {"metrics": ["dice"], "bootstrap_samples": 100}
        sites["compare_datasets"] = [["thorax", "other"]]
        return builder.study(models=("enet", "unet"), other_site=True, statistics=sites), {
            "cases": 3
        }
    if name == "two_sides":
        models, names = ("unet", "siren", "nnunet_like"), ("left_lung", "right_lung", "heart")
        pairs = [["left_lung", "right_lung"]]
        settings = builder.study(models=models, structures=names, repair=False, pairs=pairs)
        return settings, {"cases": 5}
    if name == "nnunet":
        return builder.study(models=("unet", "nnunet"), repair=False), {"cases": 4}
    if name == "nnunet_alone":
        return builder.study(models=("nnunet",), repair=False), {"cases": 3}
    if name == "images":
        return builder.study(models=("unet",), repair="images"), {"cases": 5}
    if name == "subgroups":
        columns = {"sex": "values", "age": [50, 65], "scanner": "values", "site": "values"}
        settings = builder.study(
            models=("enet", "unet_3d"),
            repair=False,
            statistics={
                "metrics": ["dice", "hd95_mm"],
                "bootstrap_samples": 100,
                "subgroups": columns,
            },
        )
        return settings, {"cases": 16}
    if name == "quality":
        asked = {"metrics": ["dice"], "bootstrap_samples": 100, "quality": True}
        settings = builder.study(models=("enet", "unet_3d"), repair=False, statistics=asked)
        return settings, {"cases": 24}
    if name == "one_model":
        groups = {"metrics": {"composite_regions": {"both": ["heart", "aorta"]}}}
        return builder.study(models=("unet",), repair=False, **groups), {"cases": 4}
    settings = builder.study(
        models=LONG_MODELS, structures=LONG_STRUCTURES, repair=False, pairs=[LONG_STRUCTURES]
    )
    return settings, {"names": LONG_CASES}
