"""A layout: `<site>/<patient>/<visit>/`, with a file a channel and, where it is labelled, `mask.nii.gz`."""


def list_cases(folder, channels):
    """List the cases of a folder (a pathlib.Path), a dict each; its keys are the columns of a case table."""
    for mask in sorted(folder.glob("*/*/*/mask.nii.gz")):
        site, patient, visit = mask.relative_to(folder).parts[:3]
        yield {
            "case": f"{site}_{patient}_{visit}",
            "subject": f"{site}_{patient}",
            **{f"image_{channel}": mask.with_name(f"{channel}.nii.gz") for channel in channels},
            "label": mask,
        }
