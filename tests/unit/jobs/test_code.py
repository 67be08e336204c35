"""The digest of code: what must rerun a job and what must not."""

import shutil

import pytest

from segstudy.jobs import code
from segstudy.study import EnetModel, UnetModel


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose files can be edited."""
    folder = tmp_path / "segstudy"
    shutil.copytree(code.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", folder)
    _forget()
    yield folder
    _forget()


def _forget():
    code.digest.cache_clear()
    code._read.cache_clear()


def changed(package, file: str, edit, *entries: str) -> bool:
    """Whether an edit of a file changes the digest of the entries."""
    before = code.digest(*entries)
    path = package / file
    path.write_text(edit(path.read_text()))
    _forget()
    return code.digest(*entries) != before


ENET = ("train.fit", *code.training_modules(EnetModel(network="enet")))
UNET = ("train.fit", *code.training_modules(UnetModel(network="unet")))
SYNTH = ("train.fit", *code.training_modules(UnetModel(network="unet", trainer="synth")))


def append(line: str):
    return lambda text: text + f"\n\n{line}\n"


def test_an_edit_to_the_loss_retrains(package):
    assert changed(package, "train/loss.py", append("EDITED = 1"), *UNET)


def test_an_edit_to_enet_retrains_enet_alone(package):
    assert not changed(package, "networks/enet.py", append("EDITED = 1"), *UNET)
    assert changed(package, "networks/enet.py", append("EDITED = 2"), *ENET)


@pytest.mark.parametrize("file", ["train/from_images.py", "train/augment.py"])
def test_an_edit_to_image_patches_retrains_no_model_of_label_maps(package, file):
    assert not changed(package, file, append("EDITED = 1"), *SYNTH)
    assert changed(package, file, append("EDITED = 2"), *UNET)


@pytest.mark.parametrize("file", ["train/from_label_maps.py", "train/synth.py"])
def test_an_edit_to_synthesis_retrains_no_model_of_images(package, file):
    assert not changed(package, file, append("EDITED = 1"), *UNET)
    assert changed(package, file, append("EDITED = 2"), *SYNTH)


@pytest.mark.parametrize("file", ["train/trainer.py", "train/spatial.py", "train/source.py"])
def test_an_edit_to_what_both_share_retrains_both(package, file):
    assert changed(package, file, append("EDITED = 1"), *UNET)
    assert changed(package, file, append("EDITED = 2"), *SYNTH)


@pytest.mark.parametrize(
    "file",
    [
        "train/nnunet.py",
        "nnunet_raw.py",
        "train/nnunet_trainer.py",
        "infer/nnunet.py",
        "networks/nnunet.py",
    ],
)
def test_an_edit_to_nnunet_is_one_of_its_own_jobs_alone(package, file):
    others = (*UNET, "infer.predict", "networks.enet")
    assert not changed(package, file, append("EDITED = 1"), *others)
    stage = "infer.nnunet" if file.startswith("infer") else "train.nnunet"
    assert changed(package, file, append("EDITED = 2"), stage, "networks.nnunet")


def test_an_edit_to_the_runner_of_programs_concerns_them_alone(package):
    others = (*UNET, *SYNTH, "infer.predict")
    assert not changed(package, "infer/external.py", append("EDITED = 1"), *others)
    assert changed(package, "infer/external.py", append("EDITED = 2"), "infer.external")
    assert not changed(package, "train/synth.py", append("EDITED = 1"), "infer.external")


@pytest.mark.parametrize("module", ["metrics", "statistics", "publish", "repair"])
def test_an_edit_to_another_stage_retrains_nothing(package, module):
    for file in sorted((package / module).glob("*.py")):
        name = str(file.relative_to(package))
        assert not changed(package, name, append("EDITED = 1"), *UNET), name


def test_an_edit_to_a_figure_redraws_only(package):
    figure = next((package / "publish").glob("**/*.py"))
    name = str(figure.relative_to(package))
    for entry in ("statistics.comparisons", "metrics.measure", "infer.predict", "train.fit"):
        assert not changed(package, name, append("EDITED = 1"), entry)


def test_a_shared_module_counts_where_it_is_imported(package):
    assert changed(package, "images/normalise.py", append("EDITED = 1"), "infer.predict")
    assert not changed(package, "images/normalise.py", append("EDITED = 2"), "metrics.table")


def test_comments_docstrings_and_formatting_do_not_count(package):
    def edit(text):
        return text.replace('"""', '"""Said otherwise. ', 1) + "\n\n\n# a remark\n"

    assert not changed(package, "train/loss.py", edit, *UNET)


def test_an_import_inside_a_function_counts(package):
    (package / "late.py").write_text("VALUE = 1\n")
    late = append("def use():\n    from segstudy.late import VALUE\n\n    return VALUE")
    assert changed(package, "train/loss.py", late, *UNET)
    assert changed(package, "late.py", append("VALUE = 2"), *UNET)


def test_settings_are_values_and_not_code(package):
    """Whichever module of `segstudy.study` is edited, or imported by its own name."""
    direct = append("from segstudy.study.networks import Model\nfrom segstudy.study import Loss")
    (package / "late.py").write_text(direct("VALUE = 1"))
    assert code.reached("late") == {"late"}
    before = code.digest("late", *UNET)
    for file in (package / "study").glob("*.py"):
        file.write_text(append("EDITED = 1")(file.read_text()))
    _forget()
    assert code.digest("late", *UNET) == before


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("regions.py", "metrics.pairs"),
        ("mirroring.py", "train.nnunet"),
        ("mirroring.py", "publish.command"),
        ("study/study.py", "publish.command"),
    ],
)
def test_what_computes_with_settings_is_code(package, file, entry):
    assert changed(package, file, append("EDITED = 1"), entry)


def test_the_whole_study_is_known_to_no_training(package):
    assert not changed(package, "study/study.py", append("EDITED = 1"), *UNET, "metrics.pairs")


def test_an_unknown_module_is_an_error():
    with pytest.raises(ValueError, match="no module 'train.nothing'"):
        code.digest("train.nothing")


# --- the cache of parsed sources ------------------------------------------------------------------


@pytest.fixture
def cache(package, tmp_path, monkeypatch):
    """The file of parsed sources, in a cache folder of its own that starts empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for function in (code._cache_file, code._cache):
        function.cache_clear()
    yield code._cache_file()
    for function in (code._cache_file, code._cache):
        function.cache_clear()


def test_a_digest_is_the_same_with_and_without_the_cache(cache, monkeypatch):
    first = code.digest("train.fit")
    code._keep(code._cache())
    assert cache.is_file()
    _forget()
    code._cache.cache_clear()
    monkeypatch.setattr(code, "parse", lambda source: pytest.fail("parsed again"))
    assert code.digest("train.fit") == first


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": [1, 2, 3]}', b"\xff"])
def test_a_damaged_cache_is_made_anew(cache, content):
    first = code.digest("train.fit")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    _forget()
    code._cache.cache_clear()
    assert code.digest("train.fit") == first


def test_where_no_cache_can_be_written_nothing_is_said(cache, monkeypatch):
    code.digest("train.fit")
    cache.parent.parent.write_text("no folder")
    code._keep(code._cache())
