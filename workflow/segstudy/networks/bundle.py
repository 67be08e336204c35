"""Bundles: one file with all that predicts, to hand on: one or more networks, their preprocessing, structures and colours.

As a weights file, a bundle holds tensors and plain values alone, is read with `weights_only=True`, and so runs no code.
A checksum over its content is told anew whenever it is read. Of a plug-in network it holds weights and the digest of
its code; the code itself is named by whoever uses it.
"""

import glob
import hashlib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segstudy import __version__, plugins
from segstudy.cases import ALL, anonymous_name
from segstudy.errors import InputError
from segstudy.images.label_formats import Colour, colours_of
from segstudy.log import log
from segstudy.networks.members import check_alike
from segstudy.networks.weights import (
    Trained,
    check_content,
    content_of,
    other_format,
    read_content,
    trained_from,
    write_content,
)
from segstudy.seen_cases import of_several_folds

FORMAT = "segstudy bundle 1"
KEPT = ("fold", "seed", "steps", "training", "validation", "images", "versions")
"""What an anonymous bundle keeps of the provenance of weights, with digests for names of cases."""
LONG = 3
"""Letters of a name of a case that is looked for within other texts, too."""


@dataclass(frozen=True)
class Bundle:
    """Hold the content of a bundle.

    Parameters
    ----------
    members
        Contents of weights files, with a name each.
    card
        The model card: Markdown, for people.
    colours
        Structure -> red, green, blue, from 0 to 255.
    checksum
        SHA-256 of the content.
    calibration
        Of the estimates of quality, as `statistics/quality/MODEL.json` of a study has it; None where there is none.
    """

    members: Mapping[str, dict[str, Any]]
    card: str
    colours: Mapping[str, Colour]
    checksum: str
    calibration: Mapping[str, Any] | None = None


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """Hold trained networks that files and bundles hold.

    Parameters
    ----------
    members
        The networks.
    names
        Where each is from.
    colours
        Structure -> colour, of the bundles.
    calibration, card, checksum
        Of a bundle that is all there is; those of part of the networks tell nothing of them together.
    """

    members: tuple[Trained, ...]
    names: tuple[str, ...]
    colours: Mapping[str, Colour]
    calibration: Mapping[str, Any] | None = None
    card: str = ""
    checksum: str = ""


def load_members(words: Sequence[str], used: Sequence[str] = ()) -> Loaded:
    """Load weights files and the members of bundles.

    Parameters
    ----------
    words
        Paths, or patterns of paths that the shell has left as they are.
    used
        References of the plug-ins that networks of them need.

    Raises
    ------
    InputError
        As `load_weights` and `read_bundle` do; for a pattern that matches nothing, and for a plug-in that none needs.
    """
    contents: dict[str, dict[str, Any]] = {}
    colours: dict[str, Colour] = {}
    of_bundle: dict[str, Any] = {}
    files = files_of(words)
    for path in files:
        content = read_content(path)
        if content.get("format") == FORMAT:
            bundle = bundle_of(content, path)
            contents |= {f"{path}: {name}": one for name, one in bundle.members.items()}
            colours |= bundle.colours
            if len(files) == 1:
                of_bundle = {
                    key: getattr(bundle, key) for key in ("calibration", "card", "checksum")
                }
        else:
            check_content(content, path)
            contents[str(path)] = content
    return Loaded(tuple(_built(contents, used)), tuple(contents), colours, **of_bundle)


def trained_members(bundle: Bundle, used: Sequence[str] = ()) -> dict[str, Trained]:
    """Build the networks of a bundle, by their names; used: references of the plug-ins that they need."""
    return dict(zip(bundle.members, _built(bundle.members, used), strict=True))


def _built(contents: Mapping[str, dict[str, Any]], used: Sequence[str]) -> list[Trained]:
    needed = {name: _plugin_of(content) for name, content in contents.items()}
    chosen = {name: _chosen(told, used) for name, told in needed.items() if told}
    odd = [text for text in used if text not in chosen.values()]
    if odd and chosen:
        raise InputError(f"--plugin {odd[0]}: none of the weights needs it; leave it out")
    # Where none needs one, the first file tells so.
    rest = odd[0] if odd else None
    return [
        trained_from(content, name, plugin=chosen.get(name, rest))
        for name, content in contents.items()
    ]


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle; InputError where it is missing, damaged, truncated, or no bundle of segstudy."""
    content = read_content(path)
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: {other_format(content.get('format'), f'a {FORMAT!r} file')}")
    return bundle_of(content, path)


def is_bundle(path: Path | str) -> bool:
    """Tell whether a file is a bundle, of this version or another, whole or not."""
    try:
        return str(read_content(path).get("format")).startswith("segstudy bundle ")
    except InputError:
        return False


def bundle_of(content: Mapping[str, Any], path: Path | str) -> Bundle:
    """Return the bundle of a file's content, once its checksum is found to be the one that it was written with."""
    members, card, colours = (content.get(key) for key in ("members", "card", "colours"))
    told = content.get("checksum")
    try:
        found = checksum({key: value for key, value in content.items() if key != "checksum"})
    except RuntimeError as error:
        raise InputError(f"{path}: holds what no bundle holds ({error})") from None
    calibration = content.get("calibration")
    whole = isinstance(members, dict) and isinstance(card, str) and isinstance(colours, dict)
    whole = whole and isinstance(calibration, dict | None)
    if found != told or not whole or not members:
        raise InputError(
            f"{path}: its content has the checksum {found[:16]}, and was written with {str(told)[:16]}: the bundle is damaged or "
            "was changed; get it again from where it came from"
        )
    # A checksum tells of damage, and nothing of who computed it.
    for name, member in members.items():
        if not isinstance(name, str) or not isinstance(member, dict):
            raise InputError(f"{path}: member {name!r} is no network; expected one of segstudy's")
        check_content(member, f"{path}: {name}")
    for name, colour in colours.items():
        parts = colour if isinstance(colour, list | tuple) else ()
        if len(parts) != 3 or not all(type(one) is int and 0 <= one <= 255 for one in parts):
            raise InputError(
                f"{path}: colour of {name}: {colour!r}; expected red, green and blue from 0 to 255"
            )
    if calibration is not None:
        _check_calibration(calibration, members, f"{path}: its calibration")
    colours = {name: tuple(one) for name, one in colours.items()}
    return Bundle(members, card, colours, found, calibration)


def _check_calibration(
    record: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]], where: str
) -> None:
    """Raise InputError for a calibration that is damaged, or of other structures than the networks; where: its place, for the error."""
    # By name, so that an edit to it is no change of what networks predict.
    quality = importlib.import_module("segstudy.quality.calibration")
    structures = next(iter(members.values()))["structures"]
    quality.check_structures(quality.from_record(record, where), structures, where)


def checksum(value: Any) -> str:
    """Compute the SHA-256 of tensors and plain values, in lists and dicts: names, kinds, shapes and numbers."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        yield f"dict {len(value)}\n".encode()
        for key, one in value.items():
            yield f"{key!r}\n".encode()
            yield from _parts(one)
    elif isinstance(value, list | tuple):
        yield f"list {len(value)}\n".encode()
        for one in value:
            yield from _parts(one)
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}\n".encode()
        # By its bytes, since numpy does not know all types that torch has.
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        yield f"{value!r}\n".encode()


def files_of(words: Sequence[str]) -> list[Path]:
    """Return the files that words stand for, each once."""
    paths: dict[Path, Path] = {}
    for word in map(str, words):
        found = [word]
        if glob.has_magic(word) and not Path(word).exists():
            found = sorted(glob.glob(word, recursive=True))
            if not found:
                raise InputError(f"--weights {word}: no file matches this pattern")
        for path in map(Path, found):
            if path.resolve() in paths:
                log.warning("%s: named twice, and counted once", path)
            paths.setdefault(path.resolve(), path)
    return list(paths.values())


def _plugin_of(content: Mapping[str, Any]) -> str | None:
    """Return label and digest of the plug-in that a network needs to predict; None for one of segstudy's or nnU-Net's."""
    used, model = content.get("plugins") or {}, content["model"]
    if model.get("network") == "plugin":
        return used.get("network", "a plug-in ?")
    return used.get("trainer_class")


def _chosen(told: str, used: Sequence[str]) -> str | None:
    """Return which of the plug-ins given is the one told of, by the name of its file or module."""
    if len(used) < 2:
        return used[0] if used else None
    name, code = plugins.label_and_code(told)
    label = plugins.reference(name).label
    alike = [
        text
        for text in used
        if label.partition(":")[0] == plugins.reference(text).label.partition(":")[0]
    ]
    if len(alike) > 1:  # versions of one file
        alike = [text for text in alike if plugins.digest(text) == code] or alike
    return alike[0] if alike else None


# --- writing --------------------------------------------------------------------------------------


def bundle_content(
    words: Sequence[str],
    used: Sequence[str] = (),
    card: str = "",
    colours: Mapping[str, Colour] | None = None,
    anonymous: bool = False,
    calibration: Mapping[str, Any] | None = None,
    calibration_file: Path | str = "the calibration",
) -> dict[str, Any]:
    """Return the content of a bundle of weights files, or of bundles.

    Parameters
    ----------
    words
        As `load_members` has them.
    used
        References of the plug-ins that the networks need; their code does not go into the bundle.
    card
        The model card, as Markdown; empty: one of what the weights record.
    colours
        Structure -> colour.
    anonymous
        Whether digests stand for the names of cases.
    calibration
        Of the estimates of quality, which names no case; None: that of the bundle, where there is one alone.
    calibration_file
        Where the calibration is from, for the error.

    Raises
    ------
    InputError
        For members that are no ensemble, for colours or a calibration of other structures, for a damaged calibration, and where a
        name of a case would be left.
    """
    loaded = load_members(words, used)
    check_alike(loaded.members, loaded.names)
    structures = loaded.members[0].structures
    odd = sorted(set(colours or {}) - set(structures))
    if odd:
        raise InputError(f"--colours: {odd[0]}; expected names of {', '.join(structures)}")
    members: dict[str, dict[str, Any]] = {}
    for trained in loaded.members:
        member = content_of(trained)
        if anonymous:
            member = _anonymous(member)
        name = member_name(member)
        again = sum(other.partition(" (")[0] == name for other in members)
        members[f"{name} ({again + 1})" if again else name] = member
    if calibration is None:
        calibration = loaded.calibration
    else:
        _check_calibration(calibration, members, str(calibration_file))
    content = {
        "format": FORMAT,
        "version": __version__,
        "members": members,
        "card": card or written_card(members, calibration),
        "colours": {
            name: list(colour)
            for name, colour in colours_of(
                structures, {**loaded.colours, **(colours or {})}
            ).items()
        },
    }
    if calibration is not None:
        content["calibration"] = dict(calibration)
    return {**content, "checksum": checksum(content)}


def write_bundle(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write what `bundle_content` returned, atomically; equal content gives equal bytes."""
    write_content(path, content)


def member_name(member: Mapping[str, Any]) -> str:
    """Return what a member is called: network, fold and seed."""
    known = member["provenance"]
    parts = [f"{key} {known[key]}" for key in ("fold", "seed") if known.get(key) is not None]
    return ", ".join([str(member["model"].get("network")), *parts])


def written_card(
    members: Mapping[str, Mapping[str, Any]], calibration: Mapping[str, Any] | None = None
) -> str:
    """Return a model card of what the weights record, as Markdown: what it segments, on what it was trained, what is not known."""
    first = next(iter(members.values()))
    spacings = {tuple(member["plan"]["spacing_mm"]) for member in members.values()}
    seen = {
        key: {name for member in members.values() for name in member["provenance"].get(key) or ()}
        for key in ("training", "validation")
    }
    pairs = ", ".join(" and ".join(pair) for pair in first["left_right_pairs"])
    lines = [
        "# Model card",
        "",
        f"Segments: {', '.join(first['structures'])}.",
        f"Sees: {', '.join(first['channels'])}, resampled to voxels of "
        + " or ".join(" x ".join(f"{size:g}" for size in one) for one in sorted(spacings))
        + " mm.",
        *([f"Left and right: {pairs}."] if pairs else []),
        "",
        f"Members, whose probabilities are averaged: {len(members)}."
        if len(members) > 1
        else "One network.",
        "",
        *(f"- {name}" for name in members),
        "",
        f"Trained on {len(seen['training'])} cases; {len(seen['validation'] - seen['training'])} further ones were held out to "
        "choose weights or post-processing.",
        *_origins(members),
        *(
            [
                f"Its estimates of quality (`segstudy infer --quality`) are calibrated on {calibration['subjects']} held-out subjects, "
                "and hold for new subjects of the same population"
                + (
                    "; approximately, since these networks together have seen more cases than each of the calibration's."
                    if of_several_folds(one["provenance"] for one in members.values())
                    else "."
                )
            ]
            if calibration
            else []
        ),
        f"Written by segstudy {__version__}.",
        "",
        "Not stated here: where the scans are from, how well it does on others, what it must not be used for. Whoever hands this "
        "bundle on should say so (`segstudy bundle --card FILE`).",
        "",
    ]
    return "\n".join(lines)


def _origins(members: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what weights the members started from, and which of them were trained on every case."""
    lines = []
    starts = {
        name: known
        for name, member in members.items()
        if (known := member["provenance"].get("initial_weights"))
    }
    for digest in sorted({str(known.get("sha256", "")) for known in starts.values()}):
        names = [name for name, known in starts.items() if str(known.get("sha256", "")) == digest]
        known = starts[names[0]]
        frozen = members[names[0]]["model"].get("freeze") or ()
        whose = "" if len(names) == len(members) else f" ({', '.join(names)})"
        lines.append(
            f"Fine-tuned{whose} from {known.get('file') or 'weights'}{digest and f' (sha256 {digest})'}, of network "
            f"{known.get('network') or 'unknown'}{frozen and '; frozen: ' + ', '.join(map(str, frozen))}."
        )
    if earlier := earlier_images(members.values()):
        lines.append(f"The weights that it started from knew {earlier} further cases.")
    if not all(known.get("knows_all", True) for known in starts.values()):
        lines.append(
            "They do not tell of all their cases, so that whether an image is among these can't be told."
        )
    of_all = [name for name, member in members.items() if member["provenance"].get("fold") == ALL]
    if of_all:
        lines.append(
            f"Trained on every case of their study, with none held out to test them: {', '.join(of_all)}. These have no held-out "
            "result of their own; figures of the study are of other weights, those of its folds."
        )
    return lines


def earlier_images(members: Iterable[Mapping[str, Any]]) -> int:
    """Count the images that the weights knew from which members started, and that no member was trained on itself."""
    own: set[str] = set()
    before: set[str] = set()
    for member in members:
        known = member["provenance"]
        own |= {*(known.get("images") or {}).values()}
        before |= {*((known.get("initial_weights") or {}).get("images") or {})}
    return len(before - own)


def _anonymous(member: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a weights file with digests for names of cases; InputError where a name is left elsewhere."""
    known = member["provenance"]
    if known.get("anonymous"):
        return member
    names = {*(known.get("training") or ()), *(known.get("validation") or ())}
    kept = {key: known[key] for key in KEPT if key in known}
    for key in ("training", "validation"):
        kept[key] = sorted(map(anonymous_name, kept.get(key) or ()))
    kept["images"] = {
        anonymous_name(name): digest for name, digest in (kept.get("images") or {}).items()
    }
    before = (known.get("initial_weights") or {}).get("images") or {}
    if known.get("initial_weights"):
        told = {
            key: known["initial_weights"][key]
            for key in ("sha256", "network", "knows_all")
            if key in known["initial_weights"]
        }
        kept["initial_weights"] = {
            "file": "initial weights",
            **told,
            "images": {digest: anonymous_name(name) for digest, name in before.items()},
        }
    kept["anonymous"] = True
    changed = {**member, "provenance": kept}
    names |= {name.partition(" (of ")[0] for name in before.values()}
    left = _left(changed, names | {name.partition("/")[2] or name for name in names})
    if left is not None:
        raise InputError(
            f"--anonymous: the name of case {left!r} stands in the settings or the plan of the weights, too; rename the case or "
            "leave --anonymous out"
        )
    return changed


def _left(content: Any, names: Set[str]) -> str | None:
    """Return which of the names is a text, or stands in one between other signs than letters and digits."""
    # Shorter ones, as 1 or ct, stand in many a text that has nothing to do with them.
    long = sorted((name for name in names if len(name) >= LONG), key=len, reverse=True)
    within = re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, long))})(?![^\W_])")
    for text in _texts(content):
        if text in names:
            return text
        if long and (found := within.search(text)):
            return found[0]
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in ("state", "format", "version", "versions"):
                yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value
