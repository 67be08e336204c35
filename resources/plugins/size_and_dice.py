"""A figure: Dice of each case over the volume of the structure."""

import pandas


def draw(results):
    """Draw a point a case, structure and model."""
    cases = results.cases
    voxel_ml = cases[[f"spacing_{axis}_mm" for axis in "ijk"]].prod(axis=1) / 1000
    volumes = pandas.concat(
        cases[["dataset", "case"]].assign(
            structure=name, volume_ml=cases[f"voxels_{name}"] * voxel_ml
        )
        for name in results.study["datasets"][results.datasets[0]]["structures"]
    )
    values = results.values
    dice = values[values["metric"] == "dice"].dropna(subset="value")
    table = dice.merge(volumes, on=["dataset", "case", "structure"])
    table = table[["dataset", "case", "structure", "model", "volume_ml", "value"]]

    figure = results.canvas(85, 70)
    axes = figure.subplots()
    for model in results.models:
        points = table[table["model"] == model]
        axes.scatter(
            points["volume_ml"],
            points["value"],
            s=9,
            color=results.colours[model],
            label=results.names[model],
        )
    axes.set(xlabel="Volume of the reference (ml)", ylabel=results.axis("dice"))
    axes.legend()
    return {
        "figure": figure,
        "title": "Dice and the size of a structure",
        "caption": f"Dice of {table['case'].nunique()} cases over the volume of each structure.",
        "alt": "Scatter plot of Dice over the volume of each structure, a colour a model.",
        "table": table,
    }
