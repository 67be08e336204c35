"""How subjects came into their folds, in words."""

from collections import Counter

from segstudy.cases import FROM_FILE, FROM_TABLE, JOINED, NO_FOLD, SEED, Split
from segstudy.folds import unit
from segstudy.publish.results import Results
from segstudy.publish.subjects import without_subjects
from segstudy.publish.words import listing
from segstudy.words import count


def dealing(results: Results) -> str:
    """Describe how subjects came into their folds, as the table of splits has it on record."""
    splits = results.study.splits
    rows = [Split(**row) for row in results.splits.to_dict("records")]
    origins = {unit(row, splits): row.origin for row in rows if row.fold not in NO_FOLD}
    balanced = {
        "foreground_volume": " (balanced by foreground volume)",
        "volume_and_presence": " (balanced by the structures present and foreground volume)",
        "none": "",
    }[splits.stratify_by]
    said = {
        SEED: f"dealt into folds by seed {splits.seed}{balanced}",
        JOINED: "added later, each to the fold with the fewest then",
        FROM_FILE: "kept in the fold that the file of folds had for {them}",
        FROM_TABLE: "put into the fold that the case table gives",
        "": "in a fold of which it is not on record how it was dealt",
    }
    counts = Counter(origins.values())
    unnamed = set(results.study.cross_validated_datasets) <= set(without_subjects(results))
    what = "case" if splits.group_by == "case_though_it_leaks" or unnamed else "subject"
    parts = []
    for origin, words in said.items():
        number = counts[origin]
        verb, them = ("was", "it") if number == 1 else ("were", "them")
        if number:
            parts.append(f"{number} {verb} {words.format(them=them)}")
    if len(parts) == 1:
        return (
            f"Of {count(len(origins), what)}, all" + parts[0].removeprefix(str(len(origins))) + "."
        )
    return f"Of {count(len(origins), what)}, {listing(parts)}." if parts else ""
