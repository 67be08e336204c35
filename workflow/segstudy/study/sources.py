"""Where a dataset's files are, and in which layout."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from segstudy.file_patterns import FOLD, SPLIT, Pattern, check_pattern
from segstudy.study.references import source_with_kind
from segstudy.study.settings import (
    INTERNAL,
    Name,
    Positive,
    Settings,
    kinds_of,
    written_as_plugin,
)


class PhantomSource(Settings):
    """A thorax phantom in the SegTHOR manner, made from a seed: no download, known truth."""

    old_names = {"tampered": "simulated_corruption"}

    layout: Literal["phantom"]
    patients: int = Field(14, ge=2, description="number of patients")
    seed: int = Field(2026, ge=0, description="seed of anatomy and noise")
    size_voxels: tuple[int, int, int] = Field(
        (96, 96, 44), description="mean grid size (i, j, k) of a patient, in voxels"
    )
    simulated_corruption: bool = Field(
        True,
        description="move the heart's label in every patient, as SegTHOR's was; one patient keeps the right label too",
    )


class Origin(Settings):
    """Where a dataset's files are: in a folder, in an archive to fetch, or as the registry says."""

    path: str | None = Field(
        None,
        description="folder already on disk; nothing is downloaded then. Relative from the study file's folder; "
        "`~` and variables (`${DATA}`) are put in",
    )
    url: str | None = Field(None, description="address of the archive (http or https)")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="MD5 of the archive")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the archive"
    )
    registered: str | None = Field(
        None,
        description="name in `resources/datasets.yaml`, in place of `url` and checksum; what is given out on "
        "application only runs from `path`, and the error without it says where to apply",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "Origin":
        if not (self.path or self.url or self.registered):
            raise ValueError("needs one of path, url, registered")
        if self.url and not (self.md5 or self.sha256):
            raise ValueError("a url needs its checksum: add md5 or sha256")
        return self


class FolderSource(Origin):
    """A dataset in a layout that other programs write.

    `nnunet`: nnU-Net raw (`dataset.json`, `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`).
    `segthor`: `train/Patient_NN/{Patient_NN.nii.gz, GT.nii.gz}`, and `GT2.nii.gz`, a second, right label,
    where there is one.
    """

    layout: Literal["nnunet", "segthor"]


class MsdSource(Origin):
    """Decathlon: `dataset.json` lists the files, in `imagesTr` and `labelsTr`; channels in a fourth axis."""

    layout: Literal["msd"]
    entries: tuple[Literal["training", "validation", "test"], ...] = Field(
        ("training",),
        min_length=1,
        description="lists of dataset.json that are read, all as cases alike; others are named where they have labels, "
        "as AMOS's `validation` has",
    )


class SlicesSource(Origin):
    """OASIS brain slices: PNG or NIfTI files of one slice each.

    `keras_png_slices_<part>/case_NNN_slice_S.nii.png` and
    `keras_png_slices_seg_<part>/seg_NNN_slice_S.nii.png`; gray values are the label's values. The
    slices of a subject NNN are stacked along the third axis into a volume. The files do not say how
    large a pixel is or which way it lies: distances and sides hold as far as `pixel_mm` and
    `slice_mm` do.
    """

    old_names = {"cases_are": "case_unit"}

    layout: Literal["oasis_slices"]
    parts: tuple[Literal["train", "validate", "test"], ...] = Field(
        ("train", "validate", "test"), min_length=1, description="which of the folders are read"
    )
    case_unit: Literal["subjects", "slices"] = Field(
        "subjects",
        description="`subjects`: a case is a subject's volume; `slices`: each slice is a case of its subject, "
        "for measuring what a split by slice leaks",
    )
    pixel_mm: Positive = Field(1.0, description="size of a pixel, in mm")
    slice_mm: Positive = Field(1.0, description="distance of neighbouring slices, in mm")


class NeuriteSource(Origin):
    """neurite-OASIS: `OASIS_OAS1_NNNN_MR1/{aligned_norm.nii.gz, aligned_seg35.nii.gz, aligned_seg4.nii.gz}`."""

    layout: Literal["neurite_oasis"]
    segmentation: Literal["seg35", "seg4"] = Field(
        "seg35", description="35 structures, left and right apart, or 4 tissues"
    )


class BidsSource(Origin):
    """A BIDS dataset with segmentations among its derivatives.

    Images `sub-*/[ses-*/]anat/*_<suffix>.nii.gz`; labels
    `derivatives/<pipeline>/sub-*/[ses-*/]anat/*_dseg.nii.gz`, with a `dseg.tsv` of values and names
    beside them or above. A session is a case of its subject.
    """

    layout: Literal["bids"]
    suffixes: tuple[str, ...] = Field(
        ("T1w",), min_length=1, description="suffix of each channel's file, in the channels' order"
    )
    pipeline: str | None = Field(
        None, description="folder in `derivatives`; left out: the only one that holds labels"
    )
    image_desc: str | None = Field(
        None,
        description="take images of this `desc-` from the pipeline's folder; left out: the raw ones",
    )
    label_desc: str | None = Field(
        None, description="`desc-` of the label files, where a session has several"
    )


class LabelMapsSource(Origin):
    """Label maps alone, as SynthSeg learns from: each image file of the folder is a case, named by its file.

    Files `sub-<id>_...` are of subject `sub-<id>`, as in BIDS; any other is a subject's only one. There
    are no images, so that these cases are trained on (`trainer: synth`) and never tested.
    """

    layout: Literal["label_maps"]


class PluginSource(Origin):
    """A folder in a layout of your own, which a function of yours lists ([plug-ins](../docs/plugins.md)).

    `layout: ./my_layout.py` is written, from the study file's folder, or `./my_layouts.py:one`, or
    `my_package.layouts:one`.
    """

    model_config = ConfigDict(json_schema_extra=written_as_plugin("layout"))

    layout: Literal["plugin"] = Field(
        description="`./my_layout.py` (its `list_cases`), `./my_layouts.py:one` or `my_package.layouts:one`"
    )
    layout_plugin: str = Field(
        description="not written: the reference that stands as `layout`", json_schema_extra=INTERNAL
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of the function")


FilePattern = Annotated[str, AfterValidator(check_pattern)]


def _one_or_several(value: Any) -> tuple[str, ...]:
    """Turn a single pattern into a list of one. Raises ValueError for what is neither that nor a list of such."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(text, str) for text in values):
        raise ValueError(f"found {value!r}; expected a pattern, or a list of patterns")
    return tuple(values)


MaskPatterns = Annotated[
    tuple[FilePattern, ...],
    BeforeValidator(_one_or_several),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]


class FilesSource(Origin):
    """Files as they lie on disk: a pattern of their paths for each role ([your data set](../docs/your_data.md)).

    In a pattern `{subject}`, `{case}` and any other name in braces stand for text within a part of the path, the same in every
    role; `*` stands for any text within a part. A case is called by all names joined; cases of one `{subject}`
    (or `{patient}`, `{participant}`, `{person}`, `{sub}`) are never on both sides of a split. `{split}` (train or test) and `{fold}` are no part of the name: they say what
    the columns of a case table do. A file that matches several patterns belongs to the one with most
    written out (of the file's name, then of the whole path), and to a label before an image.
    """

    layout: Literal["files"]
    image: FilePattern | None = Field(
        None, description="pattern of the images, of all channels in one file (the fourth axis)"
    )
    images: dict[Name, FilePattern] = Field(
        {}, description="channel: pattern of its images; `channels` follows from it"
    )
    label: FilePattern | None = Field(None, description="pattern of the label maps")
    masks: dict[str, MaskPatterns] = Field(
        {},
        description="in place of `label`, structure: pattern, or patterns, of its masks, whose voxels are the structure's where "
        "they are not 0. Where masks overlap, the structure that stands first has the voxels, and a warning counts them",
    )
    missing_masks: Literal["refuse", "empty"] = Field(
        "refuse",
        description="what a mask means that is not there: `refuse`: a bad case; `empty`: the structure is not in the image",
    )

    @model_validator(mode="after")
    def _a_pattern_a_role(self) -> "FilesSource":
        for one, several in (("image", "images"), ("label", "masks")):
            if bool(getattr(self, one)) == bool(getattr(self, several)):
                raise ValueError(f"needs one of {one}, {several}")
        if self.missing_masks != "refuse" and not self.masks:
            raise ValueError("missing_masks: is for masks, and label stands here; leave it out")
        texts = list(self.roles.values())
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice}: stands twice; expected another pattern for each role")
        names = {
            role: set(Pattern(text).names) - {SPLIT, FOLD} for role, text in self.roles.items()
        }
        known = set().union(*names.values())
        if not known:
            raise ValueError("no name in the patterns that tells cases apart; write {case} in each")
        for role, own in names.items():
            if own != known:
                lacking = ", ".join(f"{{{name}}}" for name in sorted(known - own))
                raise ValueError(
                    f"{role}: {self.roles[role]}: {lacking} is not in it, but in another role's; expected the same "
                    "names in each, as files are paired by them; where the text does not matter, write *"
                )
        return self

    @property
    def roles(self) -> dict[str, str]:
        """Return the pattern of each role: `image` or `images.CHANNEL`, `label` or `masks.STRUCTURE`, numbered if several."""
        roles = {"image": self.image} if self.image else {}
        roles |= {f"images.{channel}": text for channel, text in self.images.items()}
        roles |= {"label": self.label} if self.label else {}
        for structure, texts in self.masks.items():
            for number, text in enumerate(texts, start=1):
                roles[f"masks.{structure}" + (f"[{number}]" if len(texts) > 1 else "")] = text
        return roles


class TableSource(Settings):
    """Your own files, named in a table (TSV): `case`, `subject`, `image` or `image_<channel>`, `label`.

    Optional columns: `reference_label`, `fold`, `split` (`train` or `test`). Paths are taken
    from the table's own folder.
    """

    layout: Literal["table"]
    path: str = Field(
        description="the table, a .tsv file. Relative from the study file's folder; `~` and variables (`${DATA}`) "
        "are put in"
    )


Source = Annotated[
    PhantomSource
    | MsdSource
    | FolderSource
    | SlicesSource
    | NeuriteSource
    | BidsSource
    | LabelMapsSource
    | FilesSource
    | PluginSource
    | TableSource,
    Field(discriminator="layout"),
    BeforeValidator(source_with_kind),
]


def source_kinds() -> dict[str, type[Settings]]:
    """Return the settings class of each layout."""
    return kinds_of(Source)


def patterns_of(source: Settings) -> tuple[str, ...]:
    """Return the patterns of a source's files; none where the layout says which files they are."""
    return tuple(source.roles.values()) if isinstance(source, FilesSource) else ()
