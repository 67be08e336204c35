"""What comes along with the package: rules, profiles, studies, environments, label tables.

In a clone they lie around the package, at the repository's root; a wheel holds them in `segstudy/_shipped`,
in the same order, so that the paths from one to another are the same.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = next(folder for folder in (PACKAGE / "_shipped", PACKAGE.parents[1]) if folder.is_dir())
"""The folder that holds Snakefile, workflow/, profiles/, config/, envs/ and resources/."""
SNAKEFILE = ROOT / "Snakefile"
PROFILES = ROOT / "profiles"
CONFIG = ROOT / "config" / "config.yaml"
STUDIES = ROOT / "config" / "studies"
RESOURCES = ROOT / "resources"
LOCK = ROOT / "requirements.lock"


def alone(folder: Path) -> Path:
    """Return a folder that holds the package and no other, to be put on `PYTHONPATH`.

    In a clone that is `workflow/`. Beside an installed package lie others, which a conda environment with
    another Python must not see: then it is `folder/segstudy`, with a link to the package.
    """
    if not (PACKAGE / "_shipped").is_dir():
        return PACKAGE.parent
    place = folder.absolute() / "segstudy"
    link = place / PACKAGE.name
    if link.resolve() != PACKAGE:
        place.mkdir(parents=True, exist_ok=True)
        new = place / f"{PACKAGE.name}.{os.getpid()}"
        new.symlink_to(PACKAGE, target_is_directory=True)
        new.replace(link)  # at once: several runs may begin together
    return place
