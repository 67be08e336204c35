"""The registry of datasets, and which archive a source means."""

import pytest

from segstudy.download.registry import archive_of, read_registry, refuse_by_hand
from segstudy.errors import InputError
from segstudy.study import (
    BidsSource,
    FolderSource,
    LabelMapsSource,
    MsdSource,
    NeuriteSource,
    SlicesSource,
)

MIRROR = "http://127.0.0.1:1/mirror.tar"


def test_the_decathlon_tasks_of_the_reference_studies():
    known = read_registry()
    assert known["Task04_Hippocampus"].md5 == "9d24dba78a72977dbd1d2e110310f31b"
    assert known["Task01_BrainTumour"].md5 == "240a19d752f0d9e9101544901065d872"
    for name in ("Task04_Hippocampus", "Task01_BrainTumour"):
        assert known[name].url.startswith("https://")
        assert known[name].licence == "CC-BY-SA 4.0"


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("SegTHOR", FolderSource(layout="segthor", registered="SegTHOR"), "codalab.org/competitions/21145"),
        ("OASIS_slices", SlicesSource(layout="oasis_slices", registered="OASIS_slices"), "keras_png_slices_seg_train"),
        ("ADNI", BidsSource(layout="bids", registered="ADNI"), "https://adni.loni.usc.edu"),
    ],
)  # fmt: skip
def test_what_is_given_out_on_application_says_where_and_how(name, layout, words):
    with pytest.raises(InputError) as error:
        archive_of(layout)
    text = str(error.value)
    assert f"{name} is not for a program to fetch" in text
    assert words in text and "path=DIR" in text and "Licence: " in text
    with pytest.raises(InputError, match=r"datasets.mine.source.path is missing"):
        refuse_by_hand({"mine": layout})
    refuse_by_hand({"mine": layout.model_copy(update={"path": "here"})})
    refuse_by_hand({"mine": MsdSource(layout="msd", registered="Task04_Hippocampus")})


def test_all_that_is_missing_is_told_at_once_with_the_command():
    """Of a study with datasets of several origins, one folder each; of parts of one, one folder."""
    sites = {
        "oasis": NeuriteSource(layout="neurite_oasis", registered="neurite_OASIS"),
        "adni": BidsSource(layout="bids", registered="ADNI"),
        "maps": LabelMapsSource(layout="label_maps", registered="SynthSeg_label_maps"),
        "own": BidsSource(layout="bids", path="here"),
    }
    with pytest.raises(InputError) as error:
        refuse_by_hand(sites, "low_data_brain")
    text = str(error.value)
    assert "datasets.own" not in text and "training_seg_01.nii.gz" in text
    assert "--config study=low_data_brain path='{oasis: DIR, adni: DIR, maps: DIR}'" in text
    slices = SlicesSource(layout="oasis_slices", registered="OASIS_slices")
    with pytest.raises(
        InputError, match=r"datasets.a.source.path, datasets.b.source.path are miss"
    ) as error:
        refuse_by_hand({"a": slices, "b": slices}, "s")
    assert str(error.value).count("Unpack it") == 1 and "study=s path=DIR," in str(error.value)


def test_a_registered_name_brings_address_checksum_licence_and_citation():
    archive = archive_of(MsdSource(layout="msd", registered="Task04_Hippocampus"))
    assert archive.url.endswith("/Task04_Hippocampus.tar")
    assert archive.checksums == {"md5": "9d24dba78a72977dbd1d2e110310f31b"}
    assert any("CC-BY-SA" in note for note in archive.notes)
    assert any("Antonelli" in note for note in archive.notes)


def test_the_studys_own_address_goes_before_the_registered_one():
    source = MsdSource(layout="msd", registered="Task04_Hippocampus", url=MIRROR, sha256="a" * 64)
    archive = archive_of(source)
    assert (archive.url, archive.checksums) == (MIRROR, {"sha256": "a" * 64})
    assert any("CC-BY-SA" in note for note in archive.notes)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean Task04_Hippocampus"):
        archive_of(MsdSource(layout="msd", registered="Task4_hippocampus"))


def test_the_layout_must_be_the_registered_one():
    with pytest.raises(InputError, match=r"source.layout: found nnunet.*msd"):
        archive_of(FolderSource(layout="nnunet", registered="Task04_Hippocampus"))


@pytest.mark.parametrize(
    "text",
    [
        "- a list",
        "a: {title: t, layout: msd, url: u, licence: l, reference: r}",
        "a: {title: t, layout: bids, obtain: ask, licence: l, reference: r}",
        "a: {title: t, layout: msd, url: u, md5: zz, licence: l, reference: r}",
        "a: [",
    ],
)
def test_a_damaged_registry_is_an_error_in_words(tmp_path, text):
    file = tmp_path / "datasets.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"datasets.yaml"):
        read_registry(file)
