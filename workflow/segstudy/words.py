"""Numbers as a person reads them, the same in logs, tables and report."""


def count(number: int, singular: str, plural: str = "") -> str:
    """Return `1 case`, `2 cases`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def minus(text: str) -> str:
    """Write the hyphens of numbers as minus signs."""
    return text.replace("-", "−")


def confidence(alpha: float) -> str:
    """Return the level of confidence intervals at a level of significance: `95 %` for 0.05."""
    return f"{100 * (1 - alpha):g} %"
