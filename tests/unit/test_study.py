"""Study files: what is read, and what is refused in which words."""

import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segstudy.errors import InputError
from segstudy.mirroring import mirrored_axes
from segstudy.study import (
    Augmentation,
    Dataset,
    NnunetInfer,
    TrainSettings,
    UnetModel,
    from_json,
    read_study,
)
from segstudy.study_command import schema

REPOSITORY = Path(__file__).resolve().parents[2]

STUDIES = sorted((Path(__file__).resolve().parents[2] / "config" / "studies").glob("*.yaml"))

MINIMAL = """
datasets:
  thorax:
    source: {layout: phantom}
    modality: CT
    structures: {heart: 2, aorta: 4}
models:
  small: {network: enet}
"""


def study(tmp_path: Path, text: str = MINIMAL, **changes):
    """The study of a text, after changes given as `datasets__thorax__modality=...`."""
    content = yaml.safe_load(text)
    for place, value in changes.items():
        *path, last = place.split("__")
        part = content
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(file)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_along_are_valid(path):
    assert read_study(path).name == path.stem


def test_the_order_of_structures_is_kept_on_the_command_line(tmp_path):
    read = study(tmp_path, datasets__thorax__structures={"z": 3, "a": 1})
    assert read.structures == ["z", "a"]
    assert list(from_json(Dataset, read.datasets["thorax"].to_json()).structures) == ["z", "a"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"models__small__epocs": 3}, r"mine\.yaml, line \d+, column 5: models\.small\.epocs: unknown key; did you mean epochs\?"),
        ({"models__small__network": "resnet"}, r"models\.small\.network: found 'resnet'.*Allowed: enet, unet"),
        ({"models__small__loss": {"dise": 1}}, r"models\.small\.loss\.dise: unknown key; did you mean dice"),
        ({"models__small__loss": "tversky"}, r"models\.small\.loss: found 'tversky'; .* such as \{tversky: 1\}"),
        ({"models__small__loss": "Cross Entropy"}, r"such as \{cross_entropy: 1\}\. There are dice, "),
        ({"models__small__loss": "focall"}, r"such as \{focal: 1\}"),
        ({"models__small__loss": "lovasz"}, r"found 'lovasz'; .* such as \{dice: 1\}"),
        ({"models__small__loss": "./my.py"}, r"such as \{plugins: \{\./my\.py: 1\}\}"),
        ({"models__small__loss": {"class_weights": {"heart": 1}}}, r"class_weights: no weight for aorta"),
        ({"models__small__plan": "fine"}, r"models\.small\.plan: 'fine' is none of the plans \(default\)"),
        ({"models__small__epochs": "many"}, r"models\.small\.epochs: found 'many'"),
        ({"models__small": {"network": {}, "grid_search": {"channels": [16, 32]}}}, r"models\.small_c16\.network: found '\{\}'"),
        ({"on_bad_case": "drop"}, r": on_bad_case: unknown key; it belongs into datasets\.<name>\. Allowed here: schema"),
        ({"structures": {"a": 1}}, r": structures: unknown key; it belongs into datasets\.<name>"),
        ({"epochs": 3}, r": epochs: unknown key; it belongs into models\.<name>\. Allowed"),
        ({"folds": 3}, r": folds: unknown key; it belongs into splits\. Allowed"),
        ({"datasets__chest__models": {}}, r"datasets\.chest\.models: unknown key; it belongs into the top level of the file"),
        ({"str": 3}, r": str: unknown key\. Allowed here: schema_version, name, title"),
        ({"models__small__patch_size": [8, 8, 8]}, r"patch_size: 3 numbers, but dims is 2"),
        ({"models__a/b": {"network": "enet"}}, r"models\.a/b"),
        ({"models__nnunet": {"trainer": "nnunet", "epocs": 3}}, r"models\.nnunet\.epocs: unknown key; did you mean epochs\?"),
        ({"models__nnunet": {"trainer": "nnunets"}}, r"models\.nnunet: trainer: found 'nnunets'\. Allowed: images, synth, nnunet"),
        ({"models__x": {"trainer": "nnunet", "network": "unet"}}, r"models\.x: trainer: .*leave out network: unet"),
        ({"models__x": {"trainer": "nnunet", "configuration": "4d"}}, r"models\.x\.configuration: found '4d'"),
        ({"models__x": {"trainer": "nnunet", "loss": {}}}, r"models\.x\.loss: unknown key"),
        ({"models__x": {"trainer": "synth"}}, r"models\.x: trainer: synth needs a plan with normalise: zscore, found 'auto' for CT"),
        ({"models__x": {"trainer": "synth", "augmentation": {"noise_sd": 1}}}, r"models\.x: augmentation: .*set `synthesis`"),
        ({"models__x": {"network": "unet", "synthesis": {"sd": [0, 1]}}}, r"synthesis: only a model with trainer: synth"),
        ({"models__x": {"trainer": "external", "command": "a {image} {output}", "labels": {"liver": 1}}}, r"models\.x\.labels: liver; expected the structures"),
        ({"models__x": {"trainer": "external", "command": "a {output}", "labels": {"heart": 1, "aorta": 2}}}, r"models\.x\.command: \{image\} is missing"),
        ({"models__x": {"trainer": "external", "command": "a", "labels": {"heart": 1, "aorta": 1}}}, r"value 1 stands for two things"),
        ({"datasets__thorax__tissues": {"fat": [77]}}, r"tissues: 77 is a value of no structure"),
        ({"models__unet": {"network": "unet", "infer": {"mirroring": True}}}, r"models\.unet\.infer\.mirroring: unknown key"),
        ({"metrics__nsd_tolerance_mm": "2 cm"}, r"metrics\.nsd_tolerance_mm: found '2 cm'.*in mm"),
        ({"publish__metrics": ["dice", "foo"]}, r"publish\.metrics: found dice, foo; expected metrics that are measured"),
        ({"statistics__metrics": ["foo"]}, r"statistics\.metrics: metric 'foo': not known.*statistics\.directions"),
        ({"statistics__directions": {"dice": "lower"}}, r"statistics\.directions: 'dice': found 'lower'"),
        ({"metrics__nsd_tolerance_cm": 2}, r"nsd_tolerance_cm: unknown key; did you mean nsd_tolerance_mm"),
        ({"metrics__composite_regions": {"all": ["liver"]}}, r"metrics\.composite_regions\.all: 'liver' is none of"),
        ({"datasets__thorax__source": {"layout": "dicom"}}, r"source\.layout: found 'dicom'.*phantom"),
        (
            {"datasets__thorax__source": {"layout": "msd", "url": "http://localhost/a.tar"}},
            r"a url needs its checksum",
        ),
        ({"datasets__thorax__structures": {"a": 1, "b": 1}}, r"value 1 stands for two structures"),
        ({"datasets__thorax__repair": {"structure": "liver", "reference_case": "x"}}, r"'liver' is none"),
        ({"datasets__thorax__structures": {"whole": [1, 2], "core": 2}}, r"value 2 .*regions that overlap, .*metrics\.composite_regions"),
        ({"datasets__thorax__background_labels": [-1]}, r"datasets\.thorax\.background_labels\.0: found -1\. Input should be greater"),
        ({"splits__run_folds": [7]}, r"run_folds: 7 is not in 0\.\.4"),
        ({"preprocess__default__spacing_mm": [1, 1]}, r"preprocess\.default\.spacing_mm"),
        ({"preprocess__default__spacing_mm": [1, 1, 0]}, r"preprocess\.default\.spacing_mm"),
        ({"statistics__compare": [["small", "big"]]}, r"statistics\.compare: 'big' is none of the models"),
        ({"datasets__thorax__role": "test"}, r"at least one needs `role: train`"),
        ({"schema_version": 99}, r"schema_version: 99: the file was written for a newer segstudy"),
    ],
)  # fmt: skip
def test_an_error_names_file_key_and_what_is_allowed(tmp_path, change, expected):
    with pytest.raises(InputError, match=expected) as error:
        study(tmp_path, **change)
    for line in str(error.value).splitlines():
        assert line.startswith(f"{tmp_path}/mine.yaml, line ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "line 1, column 5: not readable as YAML"),
        (
            "a: 1\nb: {c: 1, c: 2}\n",
            "line 2, column 11: not readable as YAML: the key 'c' stands twice, on line 2, column 5 and on line 2, column 11",
        ),
        ("- a\n", "expected keys and values"),
        ("", "expected keys and values"),
        ("a: !!python/object:os.system {}\n", "not readable as YAML"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, text, expected):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=expected):
        read_study(tmp_path / "mine.yaml")


WRONG = """\
datasets:
  thorax:
    source: {layout: phantom}
    modality: CT
    structures: {heart: 2, aorta: 4}
models:
  small: &small
    network: unet
    foreground_share: 2
  other:
    <<: *small
    foreground_fraction: 0.5
    plan: fine
  search:
    network: unet
    grid_search: {batch_size: [0], optimizer.lr: [1]}
metrics: {nsd_tolerance_mm: [1, x]}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WRONG, "line 9, column 5: models.small.foreground_fraction: found 2"),
        (WRONG, "line 9, column 5: models.other: .*foreground_share: is the old name of"),
        (WRONG, "line 16, column 19: models.search_bs0_lr1.batch_size: found 0"),
        (WRONG, "line 17, column 33: metrics.nsd_tolerance_mm.1: found 'x'"),
        (WRONG.replace("share: 2", "share: 0.2").replace("    foreground_fraction: 0.5\n", "").replace("[0]", "[1]").replace(", x", ""),
         "line 12, column 5: models.other.plan: 'fine' is none"),
        (WRONG.replace("[0]", "0"), "line 16, column 19: models.search.grid_search.batch_size: expected a list"),
        (WRONG.replace("phantom", "msd, path: ''"), "line 3, column 27: datasets.thorax.source.path: ''"),
        (WRONG.replace("    modality: CT\n", ""), "line 2, column 3: datasets.thorax.modality: this key is missing"),
        (WRONG + "grids: {}\n", "line 18, column 1: grids: is filled in"),
    ],
)  # fmt: skip
def test_an_error_names_the_line_of_its_key(tmp_path, text, expected):
    """Also where an alias, an old name or a grid search stands between the file and what is read."""
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"mine\.yaml, {expected}"):
        read_study(tmp_path / "mine.yaml")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such study file"):
        read_study(tmp_path / "none.yaml")


def test_path_replaces_the_only_source_on_disk(tmp_path):
    source = {"layout": "msd", "url": "http://localhost/a.tar", "md5": "0" * 32}
    text = yaml.safe_load(MINIMAL)
    text["datasets"]["thorax"]["source"] = source
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(text))
    assert read_study(file, "/data/here").datasets["thorax"].source.path == "/data/here"
    file.write_text(MINIMAL)
    with pytest.raises(InputError, match="one dataset on disk, this one has 0"):
        read_study(file, "/data/here")


def test_settings_on_the_command_line_are_checked_too():
    with pytest.raises(InputError, match=r"--settings: model\.network: found 'resnet'"):
        from_json(
            TrainSettings,
            '{"model": {"network": "resnet"}, "structures": ["a"], "channels": ["b"], "modality": "CT"}',
        )


def test_trainer_stands_for_the_network(tmp_path):
    content = {"trainer": "nnunet", "configuration": "2d", "infer": {"mirroring": False}}
    model = study(tmp_path, models__nnunet=content).models["nnunet"]
    assert (model.network, model.dims, model.plan, model.epochs) == ("nnunet", 2, None, 1000)
    settings = TrainSettings(model=model, structures=("a",), channels=("b",), modality="CT")
    assert from_json(TrainSettings, settings.to_json()) == settings
    assert from_json(NnunetInfer, model.infer.to_json()) == model.infer


@pytest.mark.parametrize("network", [{"trainer": "nnunet", "epochs": 5}, {"network": "unet"}])
def test_an_editor_that_knows_the_schema_takes_what_is_read(network):
    content = yaml.safe_load(MINIMAL) | {"name": "mine", "models": {"one": network}}
    jsonschema.validate(content, json.loads(schema()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"models": {"one": {"trainer": "x"}}}, json.loads(schema()))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
PLACES = [
    "datasets", "datasets__thorax", "datasets__thorax__source", "datasets__thorax__structures", "models",
    "models__small", "models__small__trainer", "models__small__loss", "models__small__patch_size", "models__small__loss__class_weights",
    "splits", "preprocess", "preprocess__default", "metrics", "metrics__composite_regions", "statistics", "publish", "name",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_stands_there_is_read_or_refused(tmp_path_factory, place, value):
    try:
        study(tmp_path_factory.mktemp("study"), **{place: value})
    except InputError as error:
        assert "mine.yaml" in str(error)


TWO_SITES = """
datasets:
  a: {source: {layout: neurite_oasis, registered: neurite_OASIS}, modality: MR, structures: {x: 1}}
  b: {source: {layout: bids, registered: ADNI}, role: test, modality: MR, structures: {x: 9}}
models:
  small: {network: enet}
"""


def test_a_folder_for_each_dataset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(TWO_SITES)
    read = read_study(file, {"a": "/one", "b": "/two"})
    assert [read.datasets[name].source.path for name in "ab"] == ["/one", "/two"]
    assert read_study(file, {"b": "/two"}).datasets["a"].source.path is None
    with pytest.raises(InputError, match=r"this one has 2 \(a, b\); name a folder for each"):
        read_study(file, "/one")
    with pytest.raises(InputError, match=r"path=\{c: ...\}: no dataset on disk of that name.*a, b"):
        read_study(file, {"c": "/one"})


def test_one_folder_for_the_parts_of_one_dataset(tmp_path):
    file = tmp_path / "mine.yaml"
    oasis = {"layout": "oasis_slices", "registered": "OASIS_slices"}
    content = yaml.safe_load(TWO_SITES)
    content["datasets"]["a"]["source"] = oasis | {"parts": ["train"]}
    content["datasets"]["b"]["source"] = oasis | {"parts": ["test"]}
    file.write_text(yaml.safe_dump(content))
    read = read_study(file, "/slices")
    assert {found.source.path for found in read.datasets.values()} == {"/slices"}


def test_a_plan_names_channels_that_exist(tmp_path):
    channels = {"datasets__thorax__channels": ["flair", "t1"]}
    two = {"preprocess__default__channels": ["t1", "t2"], **channels}
    with pytest.raises(
        InputError, match=r"preprocess.default.channels: 't2' is none of .*\(flair, t1\)"
    ):
        study(tmp_path, **two)


KIDNEYS = {"kidney_left": 1, "kidney_right": 2}
PAIRS = [["kidney_left", "kidney_right"]]
FLIPS = {"network": "enet", "augmentation": {"flip_axes": ["right_left"]}}
MIRRORS = {"network": "enet", "infer": {"mirror_axes": ["right_left"]}}


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        (FLIPS, r"augmentation\.flip_axes: right_left"),
        (MIRRORS, r"infer\.mirror_axes: right_left"),
        ({"trainer": "nnunet"}, "mirror: auto"),
        ({"trainer": "nnunet", "mirror": "all"}, "mirror: all"),
    ],
)
def test_sides_are_not_mixed_up_unasked(tmp_path, model, setting):
    def read(**changes):
        changes = {"structures": KIDNEYS} | changes
        changes = {f"datasets__thorax__{key}": value for key, value in changes.items()}
        return study(tmp_path, models__small=model, **changes)

    explained = (
        rf"models\.small\.{setting}: .*kidney_left on the other side.* "
        r"left_right_pairs: \[\[kidney_left, kidney_right\]\].*left_right_pairs: none"
    )
    with pytest.raises(InputError, match=explained):
        read()
    assert read(left_right_pairs=PAIRS).left_right_pairs == (("kidney_left", "kidney_right"),)
    assert read(left_right_pairs="none").left_right_pairs == ()
    assert read(structures={"heart": 1, "aorta": 2}).left_right_pairs == ()


@pytest.mark.parametrize(
    "model",
    [
        {"network": "enet"},
        FLIPS | {"planes": ["sagittal"]},
        MIRRORS | {"planes": ["sagittal"]},
        {"network": "unet", "augmentation": {"flip_axes": ["foot_head"]}},
        {"trainer": "nnunet", "mirror": "not_right_left"},
        {"trainer": "nnunet", "mirror": "none"},
    ],
)
def test_what_mirrors_no_sides_needs_no_pairs(tmp_path, model):
    study(tmp_path, models__small=model, datasets__thorax__structures=KIDNEYS)


def test_nnunet_mirrors_no_sides_where_pairs_are_declared(tmp_path):
    """Unless it is asked to, which the study then tells."""
    sided = {"datasets__thorax__structures": KIDNEYS, "datasets__thorax__left_right_pairs": PAIRS}
    read = study(tmp_path, models__nnunet={"trainer": "nnunet"}, **sided)
    assert mirrored_axes(read.models["nnunet"], read.left_right_pairs) == "not_right_left"
    assert read.side_blind_models == []
    plain = study(tmp_path, models__nnunet={"trainer": "nnunet", "mirror": "all"}, **sided)
    assert mirrored_axes(plain.models["nnunet"], plain.left_right_pairs) == "all"
    assert plain.side_blind_models == ["nnunet"]
    sideless = study(tmp_path, models__nnunet={"trainer": "nnunet"})
    assert mirrored_axes(sideless.models["nnunet"], sideless.left_right_pairs) == "all"
    assert sideless.side_blind_models == []


MAPS = """
datasets:
  maps:
    source: {layout: label_maps, path: maps}
    modality: MR
    structures: {thalamus: 10}
  site:
    source: {layout: bids, path: site}
    role: test
    modality: MR
    structures: {thalamus: 3}
    channels: [t1]
models:
  drawn: {trainer: synth}
"""
MAPS_AND_IMAGES = MAPS.replace("    role: test\n", "")
EXTERNAL = {"trainer": "external", "command": "a {image} {output}", "labels": {"thalamus": 1}}


def test_a_study_may_learn_from_label_maps_alone(tmp_path):
    read = study(tmp_path, MAPS)
    assert (read.training_datasets, read.tested_datasets) == (["maps"], ["site"])
    assert (read.cross_validated_datasets, read.folds, read.channels) == ([], [0], ("t1",))
    assert read.trained_on("drawn") == read.fitted_on("default") == ["maps"]


def test_each_model_may_learn_from_data_of_its_own(tmp_path):
    fine = {"preprocess__default": {}, "preprocess__fine": {}}
    unet = {"network": "unet", "train_on": ["site"], "plan": "fine"}
    read = study(tmp_path, MAPS_AND_IMAGES, models__unet=unet, models__program=EXTERNAL, **fine)
    assert read.trained_on("drawn") == ["maps", "site"] == read.fitted_on("default")
    assert read.trained_on("unet") == ["site"] == read.fitted_on("fine")
    assert read.trained_on("program") == []
    assert read.folds == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        (MAPS, {"datasets__maps__role": "test"}, r"role: test, but label maps have no images to predict"),
        (MAPS, {"datasets__maps__audit_labels": True}, r"audit_labels: looks at images, and label maps have none"),
        (
            MAPS,
            {"datasets__maps__repair": {"structure": "thalamus", "reference_case": "a"}},
            r"repair: looks at images, and label maps have none",
        ),
        (MAPS, {"splits__run_folds": [1]}, r"splits\.run_folds: .*nothing is cross-validated: leave it out"),
        (MAPS, {"models__unet": {"network": "unet"}}, r"models\.unet: learns from images, and maps has label maps alone; say trainer: synth"),
        (MAPS, {"models__nnunet": {"trainer": "nnunet"}}, r"models\.nnunet: learns from images, and maps has"),
        (MAPS_AND_IMAGES, {"models__unet": {"network": "unet"}}, r"models\.unet: learns from images.* say train_on: \[site\], or trainer: synth"),
        (MAPS, {"models__drawn__train_on": ["site"]}, r"models\.drawn\.train_on: 'site' is none of the datasets to train on \(maps\)"),
        (
            MAPS_AND_IMAGES,
            {"models__unet": {"network": "unet", "train_on": ["site"]}},
            r"models\.unet\.train_on: site, while drawn of the same plan \(default\) learns from maps, site.*a plan of its own",
        ),
        (MAPS, {"models__x": EXTERNAL | {"train_on": ["maps"]}}, r"train_on: trainer: external trains nothing"),
        (MAPS, {"statistics__compare_datasets": [["site", "maps"]]}, r"'maps' is none of the datasets with images \(site\)"),
        (
            MAPS,
            {"datasets": {"maps": yaml.safe_load(MAPS)["datasets"]["maps"]}},
            r"datasets: all are label maps, so nothing can be predicted",
        ),
    ],
)  # fmt: skip
def test_what_label_maps_cannot_do_is_refused_when_the_study_is_read(
    tmp_path, text, change, expected
):
    with pytest.raises(InputError, match=expected):
        study(tmp_path, text, **change)


def test_declared_sides_make_no_stage_run_again_that_only_reads_files(tmp_path):
    plain = study(tmp_path, datasets__thorax__structures=KIDNEYS).datasets["thorax"]
    told = study(
        tmp_path, datasets__thorax__structures=KIDNEYS, datasets__thorax__left_right_pairs=PAIRS
    ).datasets["thorax"]
    assert plain.cohort().digest() == told.cohort().digest()
    assert plain.repaired_cohort().digest() == told.repaired_cohort().digest()


def test_a_field_that_would_fold_and_a_finer_resolution_are_refused(tmp_path):
    with pytest.raises(InputError, match="elastic_voxels: 4 voxels would fold"):
        study(tmp_path, models__small__augmentation={"elastic_voxels": 4})
    with pytest.raises(InputError, match="low_resolution_scale: expected at most 1"):
        study(tmp_path, models__small__augmentation={"low_resolution_scale": [0.5, 2]})


def test_a_word_stands_for_a_set_of_random_changes():
    none, strong = Augmentation.model_validate("none"), Augmentation.model_validate("strong")
    assert not any(value for name, value in none if name.endswith("_probability"))
    assert strong.rotation_deg == 30
    assert Augmentation.model_validate("default") == Augmentation()
    changed = Augmentation.model_validate({"preset": "strong", "rotation_deg": 5})
    assert changed == strong.model_copy(update={"rotation_deg": 5.0})
    for one in (none, strong, changed):
        assert Augmentation.model_validate_json(one.to_json()) == one


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"augmentation: preset 'wild'; expected one of none, light"
    ):
        study(tmp_path, models__unet={"network": "unet", "augmentation": "wild"})


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "config" / "studies").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_schema_takes_the_studies_that_come_along(file):
    """As an editor does that reads the first line of each."""
    schema = json.loads((REPOSITORY / "config" / "study.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)


@pytest.mark.parametrize("key", ["when_not_normal", "bootstrap"])
def test_a_key_that_is_gone_is_told_from_an_unknown_one(tmp_path, key):
    file = tmp_path / "study.yaml"
    study = yaml.safe_load((REPOSITORY / "config" / "studies" / "demo.yaml").read_text())
    file.write_text(yaml.safe_dump({**study, "statistics": {key: "x"}}))
    with pytest.raises(InputError, match=f"statistics.{key}: this key is gone; "):
        read_study(file)


def test_keys_that_nobody_writes_are_not_offered(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("grid: 1\n")
    with pytest.raises(InputError) as told:
        read_study(file)
    assert "datasets" in str(told.value)
    assert "grids" not in str(told.value) and "partial" not in str(told.value)


@pytest.mark.parametrize(
    ("infer", "words"),
    [
        ({"uncertainty": True}, "one prediction a case disagrees with nothing"),
        ({"mc_dropout": 1}, "1 sample disagrees with nothing"),
        ({"mc_dropout": 10}, "dropout: 0, and infer.mc_dropout"),
    ],
)
def test_what_has_no_members_is_refused_with_the_reason(infer, words):
    with pytest.raises(ValidationError, match=words):
        UnetModel(network="unet", infer=infer)
    assert UnetModel(network="unet", dropout=0.2, infer={"mc_dropout": 10, "uncertainty": True})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("limitations", "One scanner.", r'limitations: .*write a list: \["One scanner."\]'),
        ("authors", "A. Author", "authors: .*write a list"),
        ("source_dates", 2015, "source_dates: .*write it in quotes: '2015'"),
        ("registration", date(2020, 1, 1), "registration: .*write it in quotes: '2020-01-01'"),
        ("abstract", "   ", "abstract: .*blanks alone"),
        ("abstract", "a\x1b[2J", r"abstract: .*control character '\\x1b'"),
        ("limitations", ["a\x1b"], "limitations.*control character"),
    ],
)
def test_texts_of_the_authors_are_texts(key, value, words, tmp_path):
    with pytest.raises(InputError, match=words):
        study(tmp_path, reporting={key: value})
    several = {"abstract": "Two\nlines", "limitations": ["One", "Two"], "source_dates": "2015"}
    assert study(tmp_path, reporting=several).reporting.source_dates == "2015"
