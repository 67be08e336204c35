"""`segstudy bundle`: trained networks as one file to hand on, and as ONNX."""

import unicodedata
from argparse import ArgumentParser, Namespace
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import parse_json

EXAMPLES = """examples:
  segstudy bundle --weights 'fold-*/seed-*/weights.pt' --output model.bundle --card card.md
  segstudy bundle --weights 'fold-*/seed-*/weights.pt' --output model.bundle --calibration results/study/statistics/quality/unet.json
  segstudy bundle --show model.bundle
  segstudy infer --weights model.bundle --output predictions scans/
  segstudy bundle --weights model.bundle --onnx onnx/
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the weights, and what is written of them."""
    parser.description = (
        "Put trained networks with all that is needed to predict (preprocessing, structures, colours, a model card) into one file, "
        "which `segstudy infer --weights` reads. It holds no code; of several networks the probabilities are averaged."
    )
    parser.epilog = EXAMPLES
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        help="weights files of `segstudy train`, or bundles; a pattern in quotes stands for the files that it matches",
    )
    what.add_argument("--show", type=Path, metavar="BUNDLE", help="tell what a bundle holds")
    parser.add_argument("--output", type=Path, metavar="BUNDLE", help="the file to write")
    parser.add_argument(
        "--onnx",
        type=Path,
        metavar="DIR",
        help="write each network as an ONNX file, with a JSON of its preprocessing beside it (pip install 'segstudy[onnx]'), into a "
        "folder that is new, empty, or of an earlier export, which is replaced",
    )
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="the model card, Markdown (default: one of what the weights record)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="JSON",
        help="statistics/quality/MODEL.json of the study that trained the weights, which `segstudy infer --quality` then takes from the "
        "bundle (default: that of the bundle that is bundled anew)",
    )
    parser.add_argument(
        "--colours",
        metavar="JSON",
        help='colours of structures, {"liver": "#e69f00"} (default: those of `segstudy infer --format`)',
    )
    parser.add_argument(
        "--anonymous",
        action="store_true",
        help="digests stand for the names of training cases; whether an image was trained on can still be told",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="the network, where it is a plug-in; its code does not go into the bundle, whose users name it, too",
    )


def run(options: Namespace) -> None:
    """Write the bundle, or tell what one holds."""
    from segstudy.networks.bundle import read_bundle

    if options.show:
        print(_shown(read_bundle(options.show)), end="")
        return
    if not options.output and not options.onnx:
        raise InputError("nothing to write: name --output BUNDLE, or --onnx DIR, or both")
    _write(options)


def _write(options: Namespace) -> None:
    from segstudy.files import check_file_name, read_json
    from segstudy.networks.bundle import (
        bundle_content,
        bundle_of,
        files_of,
        is_bundle,
        trained_members,
        write_bundle,
    )

    if options.output:
        check_file_name(options.output)
        if options.output.resolve() in {file.resolve() for file in files_of(options.weights)}:
            raise InputError(
                f"--output {options.output}: is one of the weights, and would be overwritten; give another name"
            )
        if options.output.exists() and not is_bundle(options.output):
            raise InputError(
                f"--output {options.output}: is there, and is no bundle; it would be overwritten: give another name, or move it"
            )
    card = _text(options.card) if options.card else ""
    colours = _colours(options.colours) if options.colours else None
    record = read_json(options.calibration) if options.calibration else None
    content = bundle_content(
        options.weights,
        *(options.plugin, card, colours, options.anonymous),
        *(record, options.calibration),
    )
    bundle = bundle_of(content, "the bundle")
    if options.onnx:
        from segstudy.networks import onnx_export

        members = trained_members(bundle, options.plugin)
        for file in onnx_export.export(members, options.onnx, bundle.colours):
            print(f"{file}, with {file.with_suffix('.json').name}")
    if options.output:
        write_bundle(options.output, content)
        print(f"{options.output}: {_words(len(bundle.members))}, checksum {bundle.checksum[:16]}")


def _shown(bundle) -> str:
    """Return what a bundle holds, in words."""
    from segstudy.cases import ALL
    from segstudy.networks.bundle import earlier_images

    lines = [f"checksum {bundle.checksum}", f"{_words(len(bundle.members))}:"]
    for name, member in bundle.members.items():
        known = member["provenance"]
        images = len(known.get("images") or {})
        earlier, before = earlier_images([member]), known.get("initial_weights") or {}
        tuned = (
            f"; fine-tuned from weights that knew {earlier} further cases"
            if earlier
            else "; fine-tuned from other weights"
        )
        seen = len({*(known.get("training") or ()), *(known.get("validation") or ())})
        lines.append(
            f"  {name}: {', '.join(member['structures'])}; trained on {seen} cases"
            + (", whose names it does not tell" if known.get("anonymous") else "")
            + (f", {images} of them known by their images" if images else "")
            + (tuned if before else "")
            + (
                ", which do not tell of all their cases"
                if not before.get("knows_all", True)
                else ""
            )
            + ("; no case of its study was held out" if known.get("fold") == ALL else "")
        )
        lines += [
            f"    needs the plug-in {told.rpartition(' ')[0]}: --plugin FILE"
            for key, told in (member.get("plugins") or {}).items()
            if key in ("network", "trainer_class")
        ]
    known = bundle.calibration
    if known:
        lines.append(
            f"calibrated for --quality: model {known['model']}, {known['subjects']} subjects, agreement of {known['kind']}"
        )
    text = "\n".join([*lines, "", bundle.card.rstrip(), ""])
    # Of a stranger's card, nothing may command the terminal.
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one) != "Cc")


def _words(number: int) -> str:
    return "one network" if number == 1 else f"{number} networks"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--card {path}: not readable as text ({error})") from None


def _colours(text: str) -> dict[str, tuple[int, int, int]]:
    """Return the colours of structures, red, green and blue from 0 to 255."""
    from matplotlib.colors import to_rgb

    value = parse_json(text, "--colours")
    if not isinstance(value, dict):
        raise InputError(f'--colours {text}: expected {{"structure": "#rrggbb", ...}}')
    found = {}
    for name, colour in value.items():
        try:
            found[name] = tuple(round(255 * part) for part in to_rgb(colour))
        except (ValueError, TypeError):
            raise InputError(
                f"--colours: {name}: {colour!r} is no colour; expected e.g. #e69f00 or steelblue"
            ) from None
    return found
