"""Names of cases: every case becomes files and words of commands, so that a name has to be fit for both."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from segstudy.cases import Case
from segstudy.download.problems import Problem
from segstudy.images.names import named_alike, safe_name
from segstudy.images.value_checks import WARNING
from segstudy.words import count

SHOWN = 3
"""New names that are told in a line."""


def named_safely(cases: Sequence[Case]) -> tuple[list[Case], list[Problem]]:
    """Return the cases under safe names, each of which stands once, and the problems with the names.

    A case that is its own subject keeps the given name as that. Two cases of one safe name are refused,
    as are names that differ in upper and lower case alone, which some file systems do not tell apart.
    """
    given = [case.case for case in cases]
    safe = [safe_name(name) for name in given]
    counts = Counter(name.lower() for name in safe)
    named: list[Case] = []
    problems: list[Problem] = []
    renamed: list[str] = []
    for case, name in zip(cases, safe, strict=True):
        number = counts[name.lower()]
        if number > 1:
            same = sorted(
                {own for own, one in zip(given, safe, strict=True) if one.lower() == name.lower()}
            )
            also = f": as {name}, like {', '.join(same)}" if len(same) > 1 else ""
            text = f"the name stands {number} times{also} (capitals are not told apart); rename the cases"
            problems.append(Problem(case.case, str(case.files[0]), text))
            continue
        named.append(replace(case, case=name))
        if name != case.case:
            renamed.append(name)
    if renamed:
        more = f" and {len(renamed) - SHOWN} more" if len(renamed) > SHOWN else ""
        text = (
            f"{count(len(renamed), 'case')} with characters in the name that not every file system and shell takes, called "
            f"{', '.join(renamed[:SHOWN])}{more} in all results; the log of the audit lists both names"
        )
        problems.append(Problem("", "", text, WARNING))
    return named, problems


def one_person_perhaps(cases: Sequence[Case], remedy: str) -> list[Problem]:
    """Warn where cases that count as a subject each have names as time points of one person have, by `named_alike`.

    Parameters
    ----------
    cases
        Of a dataset that does not say which cases are of one subject.
    remedy
        What says so, for the warning.
    """
    alike = named_alike(case.case for case in cases)
    if not alike:
        return []
    first, second, *_ = alike[0]
    text = (
        f"{sum(map(len, alike))} cases are named as several of one person are, such as {first} and {second}, and each is taken "
        f"for a subject of its own, so that a model can be tested on a person it was trained on; {remedy}"
    )
    return [Problem("", "", text, WARNING)]


def on_two_sides(cases: Sequence[Case]) -> list[Problem]:
    """Warn of subjects with cases that are trained on and others kept for testing, or with cases of two folds."""
    of_subject: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_subject[case.subject].append(case)
    problems = []
    for subject, own in sorted(of_subject.items()):
        sides: dict[str, str] = {}
        for case in own:
            # Without a split a case is trained on, as one that has a fold is.
            side = "test" if case.split == "test" else "train"
            if side == "train" and case.fold is not None:
                side = f"fold {case.fold}"
            sides.setdefault(side, case.case)
        if len(sides) > 1:
            found = ", ".join(f"{side} (case {case})" for side, case in sorted(sides.items()))
            text = (
                f"subject {subject} is in {found}; expected one, for all cases of a subject: a run that trains on them is "
                "refused, unless splits.group_by asks for leaks"
            )
            problems.append(Problem(own[0].case, "", text, WARNING))
    return problems
