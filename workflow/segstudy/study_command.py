"""`segstudy study`: check a study file, or print the schema and the reference of its keys."""

import json
import types
import typing
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from segstudy.folds import refuse_twin
from segstudy.jobs.extras import missing_extras
from segstudy.log import log
from segstudy.paths import expanded, spelt_as_stored
from segstudy.start import check_tables, tell_cases
from segstudy.study import Model, Study, check_sources, read_study
from segstudy.study.settings import EXPERT, INTERNAL
from segstudy.study.validation_errors import settings_in
from segstudy.words import count


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="study file to check")
    what.add_argument("--schema", action="store_true", help="print the JSON schema")
    what.add_argument("--reference", action="store_true", help="print config/README.md")
    parser.add_argument(
        "--cases",
        action="store_true",
        help="list the cases that the files make, what is left over, and why; no image is opened",
    )
    parser.epilog = "example: segstudy study config/studies/demo.yaml"


def run(options: Namespace) -> None:
    """Check a study file, or print the schema or the reference."""
    if options.schema:
        print(schema(), end="")
    elif options.reference:
        print(reference(), end="")
    else:
        file = spelt_as_stored(expanded(options.file, "study file"))
        refuse_twin(Path(file))
        study = read_study(file)
        check_sources(study, file)
        if options.cases:
            tell_cases(study)
            return
        check_tables(study)
        for told in missing_extras(study, study.models, None):
            log.warning("%s: %s", file, told)
        if said := study.in_brief or study.folds_run:
            log.warning("%s: %s", file, said)
        print(
            f"{file}: {study.name}: {count(len(study.datasets), 'dataset')}, "
            f"{count(len(study.models), 'model')}, {count(len(study.folds), 'fold')}, "
            f"structures {', '.join(study.structures)}"
        )


def schema() -> str:
    """Return the JSON schema of a study file, which editors use to complete and check it."""
    whole = _without_internals(Study.model_json_schema())
    whole["required"].remove("name")  # a file without it is called as the file is
    return json.dumps(whole, indent=1) + "\n"


def _without_internals(schema: typing.Any) -> typing.Any:
    """Remove keys from the schema that nobody writes."""
    if isinstance(schema, list):
        return [_without_internals(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_internals(part)
        for key, part in schema.items()
        if not (isinstance(part, dict) and INTERNAL.items() <= part.items())
    }
    kept.pop("tier", None)
    return kept


HEAD = """# The study file

Every key of a study file, with its type, its default and what it means. A study file describes a whole study: `segstudy new` writes a first
one, `segstudy study my/study.yaml` checks it, `segstudy run my/study.yaml` runs it. `datasets` and `models` are all that it must have. A
study that comes along in `config/studies/` is run by its name, `snakemake --config study=NAME`.

Units stand in a key's name or description. Keys without a default are required. How headers of images are understood stands
[at the end](#where-an-image-lies). This page and `study.schema.json` are written by `make reference` from the types in
`workflow/segstudy/study/`; a test fails when they drift.

`config/config.yaml` holds what is no part of a study: `study` (which one), `results` (where results go)
and `path` (a folder in place of the `source.path`, or `{dataset: folder, ...}`, from the working directory; nothing is
downloaded then).
"""
IMAGES = """
## Where an image lies

NIfTI: by the sform where its code is above 0, else by the qform, else by the voxel
sizes alone, with a warning; where they disagree, or voxel sizes by sform and by pixdim, or pixdim is negative, a
warning says so. NRRD and MetaImage: as ITK reads them. A header without a voxel size is refused (none, nan or 0,
unless NIfTI's sform tells it), and so are a unit that is not known, units that differ by axis, and a scale of values that is
infinite. Lengths are mm. Of a header in another unit the length of the image decides, 1 mm to 3 m by the unit and
5 mm to 3 m as mm being taken for real: what leaves one reading is converted, or taken as mm, with a warning; else
it is refused with both. Axes further than 0.1 degrees from right angles (a tilted gantry) are refused, as is an
image longer than 3 m; one shorter than 1 mm is warned of.

A case whose voxel size and image size are both out of proportion to most cases (8 times in the mean of the axes,
20 times along one) is refused; where more than a third of the cases are, all are refused, with both groups. The
audit compares the cohort, `segstudy metrics` the references of two folders (those of a study were audited), and
`infer` each image with what the weights were trained on.
Audit, infer and metrics say the same of a file. Predictions keep the image's own header.
"""


def reference() -> str:
    """Return `config/README.md`: a table of keys for each part of a study file."""
    parts, shared = [HEAD], False
    for kind in settings_of(Study):
        if issubclass(kind, Model) and not shared:
            shared = True
            parts.append(_section(Model, "models: what all networks share"))
        base = Model if issubclass(kind, Model) else None
        parts.append(_section(kind, _title(kind), base))
    return "".join([*parts, IMAGES])


def _section(kind: type[BaseModel], title: str, base: type[BaseModel] | None = None) -> str:
    """Write a part of the study file: its keys, then those that only experts need.

    base: settings whose keys stand in a table of their own, and here only where they differ.
    """
    rows = {name: _row(name, field) for name, field in kind.model_fields.items()}
    if base is not None:
        common = {name: _row(name, field) for name, field in base.model_fields.items()}
        rows = {name: row for name, row in rows.items() if common.get(name) != row}
    rows = {name: row for name, row in rows.items() if not _is(kind, name, INTERNAL)}
    plain = [row for name, row in rows.items() if not _is(kind, name, EXPERT)]
    expert = [row for name, row in rows.items() if _is(kind, name, EXPERT)]
    doc = " ".join((kind.__doc__ or "").split())
    if base is not None:
        shared = "[what all networks share](#models-what-all-networks-share)"
        doc = f"{doc}\n\nThe keys of {shared}, and:".strip()
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    text = f"\n## {title}\n\n{doc}\n\n" + (head + "".join(plain) if plain else "")
    return text + (f"\nFor experts:\n\n{head}{''.join(expert)}" if expert else "")


def _is(kind: type[BaseModel], name: str, tier: dict) -> bool:
    return kind.model_fields[name].json_schema_extra == tier


def _row(name: str, field: FieldInfo) -> str:
    if field is Study.model_fields["name"]:
        default = "the file's"
    elif field.is_required():
        default = "required"
    else:
        default = _shown(field.get_default(call_default_factory=True))
    meaning = (field.description or _meaning(field.annotation)).replace("|", "\\|")
    return f"| `{name}` | {_type(field.annotation)} | {default} | {meaning} |\n"


def settings_of(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """List a settings class and all classes in it, each once, outermost first."""
    kinds = [kind]
    for current in kinds:
        for field in current.model_fields.values():
            kinds.extend(inner for inner in settings_in(field.annotation) if inner not in kinds)
    return kinds


def _title(kind: type[BaseModel]) -> str:
    return {
        "PhantomSource": "source: phantom",
        "MsdSource": "source: msd",
        "FolderSource": "source: nnunet, segthor",
        "SlicesSource": "source: oasis_slices",
        "NeuriteSource": "source: neurite_oasis",
        "BidsSource": "source: bids",
        "FilesSource": "source: files",
        "PluginSource": "source: a layout of your own",
        "TableSource": "source: table",
        "EnetModel": "models: enet",
        "UnetModel": "models: unet",
        "AttentionUnetModel": "models: attention_unet",
        "UnetrModel": "models: unetr",
        "SwinUnetrModel": "models: swin_unetr",
        "NnunetModel": "models: nnunet",
        "ExternalModel": "models: external",
        "PredictionsModel": "models: predictions",
        "EnsembleModel": "models: ensemble",
        "PluginModel": "models: a network of your own",
        "PluginTrainerModel": "models: a trainer of your own",
        "SirenHead": "head",
        "OwnInfer": "infer",
        "NnunetInfer": "infer: nnunet",
    }.get(kind.__name__, kind.__name__.lower())


def _meaning(annotation: typing.Any) -> str:
    kinds = settings_in(annotation)
    return (
        "see " + ", ".join(f"[{_title(kind)}](#{_anchor(kind)})" for kind in kinds) if kinds else ""
    )


def _anchor(kind: type[BaseModel]) -> str:
    return "".join(c for c in _title(kind).lower() if c.isalnum() or c in " -_").replace(" ", "-")


def _type(annotation: typing.Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{_title(annotation)}](#{_anchor(annotation)})"
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        if inner == ("plugin",):
            return "plug-in"
        return " \\| ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " \\| ".join(_type(part) for part in inner)
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {_type(inner[0])}"
        return f"{len(inner)} × {_type(inner[0])}"
    if origin is dict:
        return f"name: {_type(inner[1])}"
    return {
        "str": "text",
        "int": "integer",
        "float": "number",
        "bool": "true \\| false",
        "Any": "any value",
    }.get(getattr(annotation, "__name__", ""), str(annotation))


def _shown(value: typing.Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: its defaults" for key in value) + "}" if value else "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(part) for part in value)}]`"
    if value is None or value == "":
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
