"""Which files of a BIDS dataset are meant: entities, several scans, masks and probabilities, folders, names of values."""

import numpy as np
import pytest
from download_builders import AFFINE, SHAPE, voxels
from pydantic import ValidationError

from segstudy.download.convert import merge_masks
from segstudy.download.layouts import list_cases
from segstudy.errors import InputError
from segstudy.images.files import read_label, write_nifti
from segstudy.study import Dataset, read_study

ONE, TWO = {"lesion": 1}, {"gm": 1, "wm": 2}


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"none")


def listing(root, structures=ONE, **source):
    content = {"modality": "MR", "structures": structures}
    source = {"layout": "bids", "path": str(root), **source}
    return list_cases(Dataset.model_validate({**content, "source": source}))


def names(found):
    """Image and label of each case, without what they share."""
    return [
        tuple(path.name.removeprefix("sub-1_") for path in (*case.images, case.label))
        for case in found.cases
    ]


def refused(found):
    return " | ".join(str(one) for one in found.problems if one.verdict == "refused")


def fmriprep(root):
    """What fMRIPrep writes of a subject with FreeSurfer, the files of surfaces but for one left out."""
    kept = ["desc-preproc_T1w", "desc-brain_mask", "dseg"]
    kept += [f"label-{tissue}_probseg" for tissue in ("GM", "WM", "CSF")]
    spaces = ["", "space-MNI152NLin2009cAsym_", "space-MNI152NLin6Asym_res-2_"]
    own = ["desc-aseg_dseg", "desc-aparcaseg_dseg"]
    files = [f"{space}{name}.nii.gz" for space in spaces for name in kept]
    files += [f"{name}.nii.gz" for name in own] + ["hemi-L_pial.surf.gii"]
    touch(root, *(f"derivatives/fmriprep/sub-1/anat/sub-1_{file}" for file in files))
    func = "derivatives/fmriprep/sub-1/func/sub-1_task-rest_"
    touch(root, f"{func}space-T1w_desc-aseg_dseg.nii.gz", f"{func}desc-brain_mask.nii.gz")
    touch(root, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/func/sub-1_task-rest_bold.nii.gz")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"image": "preproc", "label": "aseg"}, ("desc-preproc_T1w", "desc-aseg_dseg")),
        ({"image": {"desc": "preproc"}, "label": {"desc": None}}, ("desc-preproc_T1w", "dseg")),
        ({"label": "aseg"}, ("T1w", "desc-aseg_dseg")),
        (
            {"image": "preproc", "label": {"desc": "none", "space": "MNI152NLin2009cAsym"}},
            ("space-MNI152NLin2009cAsym_desc-preproc_T1w", "space-MNI152NLin2009cAsym_dseg"),
        ),
        (
            {"image": "preproc", "label": {"desc": "none", "res": 2}},
            (
                "space-MNI152NLin6Asym_res-2_desc-preproc_T1w",
                "space-MNI152NLin6Asym_res-2_dseg",
            ),
        ),
        (
            {"image": "preproc", "masks": {"lesion": "brain"}},
            ("desc-preproc_T1w", "sub-1"),
        ),
    ],
)
def test_the_usual_files_of_fmriprep_are_found_by_entities(source, expected, tmp_path):
    fmriprep(tmp_path)
    found = listing(tmp_path, **source)
    assert refused(found) == ""
    assert names(found) == [tuple(f"{name}.nii.gz" for name in expected)]


def test_what_tells_several_labels_apart_is_told(tmp_path):
    fmriprep(tmp_path)
    found = listing(tmp_path, image="preproc")
    assert found.cases == []
    assert "3 files *_dseg (sub-1_desc-aparcaseg_dseg.nii.gz, " in refused(found)
    assert "expected one: set source.label: {desc: aparcaseg or aseg or none}" in refused(found)


def test_a_derivative_dataset_alone_is_read(tmp_path):
    fmriprep(tmp_path)
    found = listing(tmp_path / "derivatives/fmriprep", label="aseg", image="preproc")
    assert names(found) == [("desc-preproc_T1w.nii.gz", "desc-aseg_dseg.nii.gz")]


def test_images_of_another_pipeline_are_taken(tmp_path):
    fmriprep(tmp_path)
    touch(tmp_path, "derivatives/manual/sub-1/anat/sub-1_label-lesion_mask.nii")
    source = {"image": "preproc", "image_pipeline": "fmriprep", "pipeline": "manual"}
    found = listing(tmp_path, masks={"lesion": {"label": "lesion"}}, **source)
    assert names(found) == [("desc-preproc_T1w.nii.gz", "sub-1.nii.gz")]
    with pytest.raises(InputError, match=r"manually: source.image_pipeline: no such folder"):
        listing(tmp_path, label="aseg", image_pipeline="manually")


def runs(root):
    """Two scans of a session in one run each, the second also reconstructed otherwise; run 1 and 10 have labels."""
    touch(root, *(f"sub-1/anat/sub-1_run-{run}_T1w.nii" for run in ("01", "02", "10")))
    touch(root, *(f"derivatives/manual/sub-1/anat/sub-1_run-{r}_dseg.nii" for r in ("01", "10")))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"several": "first"}, ["sub-1"]),
        ({"several": "last"}, ["sub-1"]),
        ({"several": "each"}, ["sub-1_run-01", "sub-1_run-10"]),
        ({"label": {"run": 10}}, ["sub-1"]),
        ({"label": {"run": [3, 1]}}, ["sub-1"]),
    ],
)
def test_one_of_several_runs_is_taken_with_its_own_image(source, expected, tmp_path):
    runs(tmp_path)
    found = listing(tmp_path, **source)
    assert [case.case for case in found.cases] == expected
    assert {case.subject for case in found.cases} == {"sub-1"}
    assert all(image[:6] == label[:6] for image, label in names(found))
    last = source.get("several") == "last" or source == {"label": {"run": 10}}
    assert names(found)[0][1] == f"run-{'10' if last else '01'}_dseg.nii"


def test_several_runs_are_refused_unless_a_rule_is_given(tmp_path):
    runs(tmp_path)
    assert (
        "expected one: set source.label: {run: 1 or 10}, or source.several: first, last or each"
        in refused(listing(tmp_path))
    )


def test_a_scan_that_is_not_the_labels_is_not_taken(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_acq-fast_T1w.nii", "sub-1/anat/sub-1_acq-slow_T1w.nii")
    touch(tmp_path, "derivatives/a/sub-1/anat/sub-1_acq-fine_dseg.nii")
    assert "0 files *_T1w; expected one" in refused(listing(tmp_path))
    touch(tmp_path, "derivatives/b/sub-1/anat/sub-1_acq-slow_dseg.nii")
    assert names(listing(tmp_path, pipeline="b")) == [("acq-slow_T1w.nii", "acq-slow_dseg.nii")]


def test_channels_come_from_several_folders(tmp_path):
    """As ISLES22 has them: derivatives without a pipeline, and masks without a folder."""
    touch(tmp_path, "sub-1/ses-1/dwi/sub-1_ses-1_dwi.nii.gz", "sub-1/ses-1/dwi/sub-1_ses-1_adc.nii")
    touch(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_FLAIR.nii.gz", "sub-1/ses-1/perf/sub-1_cbf.nii")
    touch(tmp_path, "derivatives/sub-1/ses-1/sub-1_ses-1_msk.nii.gz")
    images = {"dwi": {"suffix": "dwi"}, "cbf": {"suffix": "cbf", "datatype": "perf"}}
    found = listing(tmp_path, images=images, label={"suffix": "msk"})
    assert names(found) == [("ses-1_dwi.nii.gz", "cbf.nii", "ses-1_msk.nii.gz")]
    with pytest.raises(InputError, match="suffixes: 1 .T1w.; expected one for each of the 2"):
        list_cases(
            Dataset.model_validate(
                {
                    "modality": "MR",
                    "structures": ONE,
                    "channels": ["a", "b"],
                    "source": {"layout": "bids", "path": str(tmp_path), "label": {"suffix": "msk"}},
                }
            )
        )


def test_a_channel_without_any_image_says_what_is_there(tmp_path):
    fmriprep(tmp_path)
    with pytest.raises(InputError, match=r"no sub-\*/\*_T2w in it; files there end in T1w, bold, "):
        listing(tmp_path, label="aseg", suffixes=["T2w"])


def test_labels_are_taken_from_the_folder_of_the_images(tmp_path):
    touch(tmp_path, "sub-1/dwi/sub-1_FA.nii", "derivatives/a/sub-1/dwi/sub-1_dseg.nii")
    touch(tmp_path, "derivatives/a/sub-1/anat/sub-1_dseg.nii")
    found = listing(tmp_path, images={"fa": {"suffix": "FA", "datatype": "dwi"}})
    assert found.cases[0].label.parent.name == "dwi"


def test_raw_data_may_lie_in_a_folder_of_its_own(tmp_path):
    touch(tmp_path, "rawdata/sub-1/sub-1_ct.nii.gz", "derivatives/sub-1/sub-1_seg-vert_msk.nii.gz")
    found = listing(tmp_path, suffixes=["ct"], label={"suffix": "msk"})
    assert names(found) == [("ct.nii.gz", "seg-vert_msk.nii.gz")]


# --- masks and probabilities --------------------------------------------------------------------


def tissues(root, gm, wm):
    """Write an image, and probabilities of gray and white matter."""
    write_nifti(root / "sub-1/anat/sub-1_T1w.nii.gz", voxels(1), AFFINE)
    for tissue, array in (("GM", gm), ("WM", wm)):
        file = root / f"derivatives/a/sub-1/anat/sub-1_label-{tissue}_probseg.nii.gz"
        write_nifti(file, array.astype(np.float32), AFFINE)


PROBABILITIES = {
    "gm": {"suffix": "probseg", "label": "GM"},
    "wm": {"suffix": "probseg", "label": "WM"},
}


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [1, 2, 0]), (0.2, [1, 1, 1])])
def test_probabilities_are_compared_with_a_threshold(threshold, expected, tmp_path):
    gm, wm = np.zeros(SHAPE), np.zeros(SHAPE)
    gm[:3, 0, 0], wm[:3, 0, 0] = (0.9, 0.3, 0.5), (0.1, 0.7, 0.5)
    tissues(tmp_path, gm, wm)
    source = {"masks": PROBABILITIES, "threshold": threshold}
    found = listing(tmp_path, TWO, **source)
    merged = merge_masks(found, TWO)
    assert refused(merged) == ""
    label = read_label(merged.cases[0].label).array
    assert label[:3, 0, 0].tolist() == expected
    overlaps = [one.problem for one in merged.problems if "overlap" in one.problem]
    assert len(overlaps) == (threshold == 0.2)


@pytest.mark.parametrize("value", [1.5, -0.5, 255, np.nan])
def test_what_is_no_probability_is_refused(value, tmp_path):
    wrong = np.zeros(SHAPE)
    wrong[0, 0, 0] = value
    tissues(tmp_path, np.zeros(SHAPE), wrong)
    found = merge_masks(listing(tmp_path, TWO, masks=PROBABILITIES), TWO)
    assert found.cases == []
    assert "expected probabilities, 0 to 1" in refused(found)


def test_a_mask_that_is_not_there_is_refused_or_empty(tmp_path):
    fmriprep(tmp_path)
    source = {"image": "preproc", "masks": {"gm": "brain", "wm": "lesion"}}
    assert "0 files *_desc-lesion_mask; expected one, in " in refused(
        found := listing(tmp_path, TWO, **source)
    )
    assert refused(found).endswith("set source.missing_masks: empty")
    (case,) = (found := listing(tmp_path, TWO, missing_masks="empty", **source)).cases
    assert [len(own) for own in found.masks[case.label].structures.values()] == [1, 0]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"label": "aseg", "masks": {"lesion": "x"}}, "label: is of no use beside masks"),
        ({"label": "aseg", "missing_masks": "empty"}, "missing_masks: is of no use beside label"),
        ({"suffixes": ["T2w"], "images": {"a": {}}}, "suffixes: is of no use beside images"),
        ({"label": {"desc": "a-b"}}, "desc: found 'a-b'; expected letters and digits"),
        ({"label": {"desc": []}}, r"desc: found \[\]; expected letters"),
        ({"label": 3}, "found 3; expected entities, such as"),
        ({"masks": {"other": "x"}}, "source.masks: other; expected one for each of the structures"),
        ({"threshold": 1.0}, "less than 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(source, message, tmp_path):
    with pytest.raises(ValidationError, match=message):
        listing(tmp_path, **source)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["sub-1/anat/sub-1_T1w.nii"], "found 0 .none., and none in .*; files there end in T1w"),
        (["a/T1w.nii"], "no sub-. folder in it: is it a BIDS dataset"),
        (["in/derivatives/a/sub-1/anat/sub-1_dseg.nii"], "did you mean .*in?"),
    ],
)
def test_a_folder_without_labels_says_what_it_has(files, message, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        listing(tmp_path)


STUDY = """datasets:
  mine: {{source: {{layout: bids, path: data, label: aseg}}, modality: MR, structures: [{structures}]}}
models: {{a: {{network: unet}}}}
"""


def study(folder, structures):
    (folder / "study.yaml").write_text(STUDY.format(structures=structures))
    return read_study(folder / "study.yaml").datasets["mine"]


def test_structures_are_found_in_the_datasets_own_table(tmp_path):
    touch(tmp_path / "data", "derivatives/a/sub-1/anat/sub-1_desc-aseg_dseg.nii")
    table = tmp_path / "data/derivatives/a/desc-aseg_dseg.tsv"
    with pytest.raises(InputError, match="structures: no dseg.tsv names the values of the labels"):
        study(tmp_path, "hippocampus")
    table.write_text("index\tname\n17\tLeft-Hippocampus\n53\tRight-Hippocampus\n16\tBrain-Stem\n")
    found = study(tmp_path, "brain_stem, hippocampus")
    assert found.structures == {"brain_stem": 16, "hippocampus": 17}
    assert found.merged_labels == {53: 17}
    assert study(tmp_path, "left_hippocampus").structures == {"left_hippocampus": 17}
    with pytest.raises(InputError, match="Brain-Stm is no name of .*did you mean Brain-Stem"):
        study(tmp_path, "Brain-Stm")
    (tmp_path / "data").rename(tmp_path / "other")
    with pytest.raises(InputError, match="names of a dataset that is not on disk; give each"):
        study(tmp_path, "hippocampus")
