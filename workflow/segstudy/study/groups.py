"""What holds of the composite regions of a study file, `metrics.groups`."""


def check_groups(groups: dict[str, tuple[str, ...]], structures: list[str]) -> None:
    """Raises ValueError for a group of unknown structures, or one named like a structure."""
    for name, members in groups.items():
        if name in structures:
            raise ValueError(f"metrics.groups.{name}: this is the name of a structure too")
        for member in members:
            if member not in structures:
                raise ValueError(
                    f"metrics.groups.{name}: {member!r} is none of the structures "
                    f"({', '.join(structures)})"
                )
