"""What a stranger needs to run a published study again: which code, which versions, which command."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import segstudy
from segstudy import plugins
from segstudy.package_files import LOCK, RECORD, RESOLVED, SETTINGS
from segstudy.publish import provenance, redaction
from segstudy.publish.citations import REFERENCES, Reference
from segstudy.publish.redaction import yaml_text
from segstudy.publish.results import Results
from segstudy.study import NnunetModel, Study, references


@dataclass(frozen=True)
class Code:
    """The segstudy that ran.

    Attributes
    ----------
    version
        Of segstudy.
    package_sha256
        Of names and contents of the package's files, as `provenance.package_digest` has it.
    address, commit, state
        Of the clone; empty where there is none, or nothing is to be told.
    wheel_sha256
        Of the archive that pip installed; empty where it was none, or nothing is to be told.
    """

    version: str
    package_sha256: str
    address: str = ""
    commit: str = ""
    state: str = ""
    wheel_sha256: str = ""


def code(anonymous: bool) -> Code:
    """Return the segstudy that runs; where names are replaced, without what leads to the people who changed it."""
    version, digest = segstudy.__version__, provenance.package_digest()
    if anonymous:
        return Code(version, digest)
    return Code(
        version,
        digest,
        address=provenance.address(),
        wheel_sha256=provenance.wheel_digest(),
        **provenance.commit(),
    )


def lock(results: Results) -> str:
    """Write the versions that ran, as pip reads them."""
    ran: dict[str, set[str]] = {}
    for training in results.trainings():
        for name, version in (results.trained(*training).get("versions") or {}).items():
            ran.setdefault(name, set()).add(str(version))
    for text in references.listed(results.study.model_dump()).values():
        module = plugins.reference(text).place.partition(".")[0]
        for name in metadata.packages_distributions().get(module, ()):
            ran.setdefault(name, {metadata.version(name)})
    extras = ["nnunet"] if any(map(_is_nnunet, results.study.models.values())) else []
    return provenance.lock(extras, ran)


def _is_nnunet(model: Any) -> bool:
    return isinstance(model, NnunetModel)


def record(
    results: Results,
    origin: Code,
    commands: Mapping[str, str],
    gaps: Sequence[str],
    options: Sequence[str],
) -> dict[str, Any]:
    """Return what ran and how, as `provenance.json` holds it.

    Parameters
    ----------
    results
        Of the study.
    origin
        Of `code`.
    commands
        Of `commands`.
    gaps
        Of `settings_file.write_settings`.
    options
        Of `segstudy publish package`.
    """
    return {
        "segstudy": {key: value for key, value in vars(origin).items() if value},
        "versions": dict(provenance.library_versions()),
        "seeds": dict(provenance.seeds(results.study)),
        "threads": _threads(results),
        "commands": dict(commands),
        "options": list(options),
        "partial": list(results.study.partial),
        # Key of the study file -> what is to be said there.
        "to_fill_in": dict(re.match("`(.+?)` (.+)", gap).groups() for gap in gaps),
    }


def _threads(results: Results) -> int:
    """Return the most threads that a training had; on a CPU they decide over its last bits."""
    trained = (results.trained(*training).get("threads") or 1 for training in results.trainings())
    return max(map(int, trained), default=1)


_RULES = "$(python -c 'from segstudy import shipped; print(shipped.SNAKEFILE)')"


def commands(results: Results, origin: Code, gaps: Sequence[str]) -> dict[str, str]:
    """Return the commands that run the study again: of segstudy, and of Snakemake.

    Parameters
    ----------
    results
        Of the study.
    origin
        Of `code`.
    gaps
        Of `settings_file.write_settings`; where datasets lack their path, it is given by the command.
    """
    lacking = re.findall(r"`datasets\.(\w+)\.source\.\w+`", "\n".join(gaps))
    path = ", ".join(f"{dataset}: PATH" for dataset in dict.fromkeys(lacking))
    cores = _threads(results)
    rules = "segstudy/Snakefile" if origin.commit or not origin.wheel_sha256 else _RULES
    ours = f" --config path='{{{path}}}'" if path else ""
    theirs = f" path='{{{path}}}'" if path else ""
    return {
        "segstudy": f"segstudy run {SETTINGS} --cores {cores}{ours}",
        "snakemake": f"snakemake --snakefile {rules} --cores {cores} --config study={SETTINGS}{theirs}",
    }


_NO_ADDRESS = (
    "`ADDRESS` is that of segstudy's repository, which is not told here: the clone that ran has none that others "
    "reach, or it was left out with the names."
)


def in_words(
    origin: Code, commands: Mapping[str, str], gaps: Sequence[str], options: Sequence[str]
) -> str:
    """Say how to run the study again.

    Parameters
    ----------
    origin
        Of `code`.
    commands
        Of `commands`.
    gaps
        Of `settings_file.write_settings`.
    options
        Of `segstudy publish package`, with which this zip was written.
    """
    if gaps:
        to_fill = (
            f"To fill in: {'; '.join(gaps)}. Write them into `{SETTINGS}`"
            + (
                "; paths may also be given as `PATH` in the command"
                if "PATH" in commands["segstudy"]
                else ""
            )
            + ". `tables/data.csv` has the checksums of the files that were used."
        )
    else:
        to_fill = "Nothing is to be filled in."
    packed = f"{commands['snakemake']} package='{' '.join(options)}' -- publish_package"
    return "\n".join(
        [
            "## To run it again",
            "",
            "Once segstudy is installed (1), `segstudy reproduce` and the name of this zip do the rest: it says what would run and what is "
            "missing, checks the data, runs, and compares `tables/`. By hand:",
            "",
            f"1. Get {_where(origin)}, and install it with the versions that ran (`{LOCK}`, "
            "Python as in its first line):",
            "",
            "   ```sh",
            *[f"   {line}" for line in _installation(origin)],
            "   ```",
            "",
            *([] if origin.address or origin.wheel_sha256 else [f"   {_NO_ADDRESS}", ""]),
            f"2. {to_fill}",
            f"3. In this folder: `{commands['segstudy']}`, or, which is the same, `{commands['snakemake']}`. "
            "With `-n` either says what would run. Results go to `results/` here.",
            f"4. To compare, pack the new results: `{packed}`, unpack the new zip in a folder of its own, and compare "
            "`tables/` of both: `diff -r`. On the same kind of CPU, with the same threads and versions, they are the "
            "same to the byte; on a GPU trainings differ a little.",
            "",
            f"`{RESOLVED}` has every setting, defaults included, for a version whose defaults are others. "
            f"`{RECORD}` has code, versions, seeds and commands in a form for programs.",
        ]
    )  # fmt: skip


def _where(origin: Code) -> str:
    """Name the segstudy that ran."""
    parts = [f"segstudy {origin.version}"]
    if origin.commit:
        parts.append(
            f"commit `{origin.commit}`" + (f" of {origin.address}" if origin.address else "")
        )
    elif origin.address:
        parts.append(f"from {origin.address}")
    if origin.wheel_sha256:
        parts.append(f"installed from an archive of SHA-256 `{origin.wheel_sha256}`")
    text = ", ".join(parts)
    if origin.commit and origin.state != "clean":
        text += f" ({origin.state}: what was changed is not in this zip)"
    return text


def _installation(origin: Code) -> list[str]:
    """Return the commands that install segstudy, from a clone in a folder `segstudy` or from the archive."""
    environment = [
        "python3 -m venv .venv && source .venv/bin/activate",
        f"pip install --requirement {LOCK}",
    ]
    if origin.wheel_sha256 and not origin.commit:
        return [*environment, f"pip install --no-deps segstudy-{origin.version}-py3-none-any.whl"]
    clone = [f"git clone {shlex.quote(origin.address or 'ADDRESS')} segstudy"]
    if origin.commit:
        clone.append(f"git -C segstudy checkout {shlex.quote(origin.commit)}")
    return [*clone, *environment, "pip install --no-deps --editable segstudy"]


def citation(origin: Code) -> str:
    """Write CITATION.cff of segstudy: title, version, and where it is from."""
    known = {
        "commit": origin.commit,
        "repository-code": origin.address,
        "license": "MIT",
    }
    return yaml_text(
        {
            "cff-version": "1.2.0",
            "title": REFERENCES["segstudy"].title,
            "message": "If you use these results, please cite the paper that they belong to; if you use segstudy, "
            "which made them, cite it, and the works in references.bib.",
            "type": "software",
            "authors": [{"name": REFERENCES["segstudy"].authors}],
            "version": origin.version,
            **{key: value for key, value in known.items() if value},
        }
    )


def bibliography(keys: Sequence[str], study: Study, origin: Code) -> str:
    """Write the BibTeX entries of what the methods cite, of segstudy, and of the data that are registered."""
    own = replace(REFERENCES["segstudy"], where=f"Version {origin.version}", url=origin.address)
    works = {key: REFERENCES[key] for key in keys} | {"segstudy": own}
    for entry_name, entry in redaction.registered(study).items():
        works.setdefault(entry_name, _of_data(entry_name, entry))
    return "\n\n".join(work.bibtex for work in works.values()) + "\n"


def _of_data(name: str, entry: Mapping[str, Any]) -> Reference:
    """Return the reference of a registered dataset, as the registry has it."""
    text = entry["reference"]
    found = re.match(r"(?P<authors>.+?) (?P<year>\d{4}), (?P<title>.+?), (?P<where>[^,]+)", text)
    doi = re.search(r"doi:(\S+?)[;.,]?(\s|$)", text)
    return Reference(
        name,
        "misc",
        found["authors"],
        int(found["year"]),
        found["title"],
        found["where"],
        doi[1] if doi else "",
    )
