"""Figures of plug-ins: what they are given, and what they give back."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import pandas
from matplotlib.figure import Figure as Canvas

from segstudy import metric, plugins
from segstudy.errors import InputError
from segstudy.publish import style
from segstudy.publish.catalogue import Figure
from segstudy.publish.draw.parts import Drawing
from segstudy.publish.results import Results

DRAW = "draw"
"""What is looked for in a plug-in."""
LEAST_MM, HIGHEST_MM = 5.0, 250.0
"""The least width and height of a figure, and the most height: that of an A4 page's text."""
PARTS = {"figure": Canvas, "title": str, "caption": str, "alt": str, "table": pandas.DataFrame}


@dataclass(frozen=True)
class FigureView:
    """Show the results of a study to a plug-in that draws; whatever it changes, it changes a copy.

    Attributes
    ----------
    _results
        The results, which a plug-in does not use by itself.
    """

    _results: Results

    @property
    def study(self) -> dict[str, Any]:
        """Return every setting of the study as plain values, keyed as in a study file."""
        return self._results.study.model_dump(mode="json")

    @property
    def metrics(self) -> pandas.DataFrame:
        """Return every measurement, a row a metric, structure, case, model, fold and seed (`metrics/metrics.csv`)."""
        return self._results.metrics.copy()

    @property
    def values(self) -> pandas.DataFrame:
        """Return the compared values, one a case, model, structure and metric (`statistics/values.csv`)."""
        return self._results.all_values.copy()

    @property
    def summary(self) -> pandas.DataFrame:
        """Return means, medians and intervals, a row a dataset, model, structure and metric (`statistics/summary.csv`)."""
        return self._results.summary.copy()

    @property
    def comparisons(self) -> pandas.DataFrame:
        """Return every test, a row a pair of models, structure and metric (`statistics/tests.csv`)."""
        return self._results.all_tests.copy()

    @property
    def cases(self) -> pandas.DataFrame:
        """Return a row a case: dataset, case, subject, fold, size and spacing_mm along i, j, k, voxels of each structure."""
        return self._cases.copy()

    @cached_property
    def _cases(self) -> pandas.DataFrame:
        rows = []
        for dataset in self._results.study.datasets:
            for case in self._results.cases(dataset):
                row = {"dataset": dataset, "case": case.case, "subject": case.subject}
                sizes = zip("ijk", case.shape, case.spacing_mm, strict=False)
                for axis, size, spacing in sizes:
                    row |= {f"size_{axis}": size, f"spacing_{axis}_mm": spacing}
                rows.append(row | {f"voxels_{name}": n for name, n in case.voxels.items()})
        split = self._results.splits[["dataset", "case", "fold"]]
        return pandas.DataFrame(rows).merge(split, how="left", on=["dataset", "case"])

    @property
    def datasets(self) -> list[str]:
        """Return the datasets that models are tested on."""
        return list(self._results.study.tested_datasets)

    @property
    def models(self) -> list[str]:
        """Return the models, in the order of the other figures."""
        return list(self._results.look.models)

    @property
    def structures(self) -> list[str]:
        """Return the structures, then the composite regions."""
        return list(self._results.look.regions)

    @property
    def colours(self) -> dict[str, str]:
        """Return the colour of each model, structure and composite region in the other figures, as `#rrggbb`."""
        look = self._results.look
        return look.structure_colours | look.model_colours

    @property
    def names(self) -> dict[str, str]:
        """Return the name of each model, structure and composite region as readers are shown it."""
        look = self._results.look
        return {name: look.structure(name) for name in self.structures} | look.model_names

    def axis(self, name: str) -> str:
        """Return the title of a metric with its unit, for an axis: `HD95 (mm)`."""
        return metric.find(name, self._results.study.statistics.directions).axis

    def canvas(self, width_mm: float, height_mm: float) -> Canvas:
        """Return an empty matplotlib figure of a size in print; a page's text is `publish.style.width_mm` wide, 170 mm if left out."""
        return style.canvas(width_mm, height_mm)


def draw(results: Results, figure: Figure) -> Drawing:
    """Draw a figure of a plug-in, and check what it gives back.

    Raises
    ------
    InputError
        Where the plug-in fails, or gives back something else than its contract says.
    """
    function = plugins.load(figure.plugin, DRAW)
    matplotlib.use("agg")  # no window, also where the plug-in draws by pyplot
    with plugins.telling(figure.plugin):
        found = function(FigureView(results))
    return _checked(found, figure.plugin)


def telling(figure: Figure) -> AbstractContextManager[None]:
    """Turn an error of laying out or saving a plug-in's figure into a sentence; text in it is set only then."""
    return plugins.telling(figure.plugin) if figure.plugin else nullcontext()


def _checked(found: Any, text: str) -> Drawing:
    if not isinstance(found, Mapping):
        raise _wrong(text, f"{type(found).__name__}", f"a dict of {', '.join(PARTS)}")
    for name, kind in PARTS.items():
        if name not in found:
            raise _wrong(text, f"no {name}", f"a dict of {', '.join(PARTS)}")
        value = found[name]
        if not isinstance(value, kind):
            raise _wrong(
                text, f"{name}: {type(value).__name__}", f"{kind.__module__}.{kind.__name__}"
            )
        if kind is str and not value.strip():
            raise _wrong(text, f"{name}: empty", "a few words")
    odd = [name for name in found if name not in PARTS]
    if odd:
        raise _wrong(text, f"{odd[0]}", f"nothing but {', '.join(PARTS)}")
    if not len(found["table"].columns):
        raise _wrong(text, "table: no column", "the numbers that the figure was drawn from")
    _check_size(found["figure"], text)
    words = (" ".join(found[name].split()) for name in ("title", "caption", "alt"))
    return Drawing(found["figure"], *words, _with_index(found["table"], text))


def _check_size(figure: Canvas, text: str) -> None:
    """Raise InputError where a figure has no size, or does not fit on a page."""
    for way, size_inches, most_mm, what in (
        ("wide", figure.get_figwidth(), style.page_mm(), "width"),
        ("high", figure.get_figheight(), HIGHEST_MM, "height"),
    ):
        size_mm = size_inches * 25.4
        if not LEAST_MM <= size_mm <= most_mm + 0.5:
            raise _wrong(
                text,
                f"figure: {size_mm:.0f} mm {way}",
                f"{LEAST_MM:g} to at most {most_mm:g} mm, the {what} of a page's text",
            )


def _with_index(table: pandas.DataFrame, text: str) -> pandas.DataFrame:
    """Return a table whose rows' names, as a `groupby` leaves them, are columns; numbers without a name are none.

    Raises InputError for columns of several levels, and for a row's name that is a column's too.
    """
    if table.columns.nlevels > 1:
        raise _wrong(text, f"table: columns of {table.columns.nlevels} levels", "one name a column")
    index = table.index
    if not any(index.names) and index.nlevels == 1 and pandas.api.types.is_integer_dtype(index):
        return table
    try:
        return table.reset_index()
    except ValueError as error:
        raise _wrong(text, f"table: index: {error}", "names of rows that are no column") from None


def _wrong(text: str, found: str, expected: str) -> InputError:
    return InputError(f"plug-in {text}: {DRAW} returned {found}; expected {expected}")
