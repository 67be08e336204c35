"""Counts of a service in the text format of Prometheus, version 0.0.4."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Upper limits of the classes of times."""


class Counts:
    """Count what a service has done since it was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._predictions: Counter[tuple[str, str]] = Counter()
        self._classes: Counter[int] = Counter()
        self._seconds, self._number = 0.0, 0
        self._upload_bytes = self._restarts = 0

    def answered(self, method: str, status: int) -> None:
        """Count a request."""
        with self._lock:
            self._requests[method, str(status)] += 1

    def uploaded(self, size: int) -> None:
        """Count the bytes of an upload that was accepted."""
        with self._lock:
            self._upload_bytes += size

    def restarted(self) -> None:
        """Count a new process that predicts."""
        with self._lock:
            self._restarts += 1

    def predicted(self, model: str, outcome: str, seconds: float | None) -> None:
        """Count a prediction; seconds: how long it ran, where it was done."""
        with self._lock:
            self._predictions[model, outcome] += 1
            if seconds is not None:
                self._seconds += seconds
                self._number += 1
                self._classes.update(limit for limit in SECONDS if seconds <= limit)

    def text(self, states: Mapping[str, int], memory_bytes: int) -> str:
        """Return all counts. states: predictions by state; memory_bytes: of the process that predicts."""
        with self._lock:
            parts = [
                _metric(
                    "http_requests_total",
                    "counter",
                    "Requests by method and status.",
                    [
                        (f'{{method="{method}",status="{status}"}}', number)
                        for (method, status), number in sorted(self._requests.items())
                    ],
                ),
                _metric(
                    "predictions_total",
                    "counter",
                    "Predictions that ended, by model and outcome.",
                    [
                        (f'{{model="{model}",outcome="{outcome}"}}', number)
                        for (model, outcome), number in sorted(self._predictions.items())
                    ],
                ),
                _metric(
                    "predictions",
                    "gauge",
                    "Predictions that are kept, by state.",
                    [(f'{{state="{state}"}}', number) for state, number in states.items()],
                ),
                self._histogram(),
                _metric(
                    "upload_bytes_total", "counter", "Bytes of uploads.", [("", self._upload_bytes)]
                ),
                _metric(
                    "worker_restarts_total",
                    "counter",
                    "New processes that predict, after the first.",
                    [("", self._restarts)],
                ),
                _metric(
                    "worker_memory_bytes",
                    "gauge",
                    "Resident memory of the process that predicts.",
                    [("", memory_bytes)],
                ),
            ]
        return "".join(parts)

    def _histogram(self) -> str:
        rows = [(f'_bucket{{le="{limit}"}}', self._classes[limit]) for limit in SECONDS]
        rows += [('_bucket{le="+Inf"}', self._number), ("_sum", round(self._seconds, 6))]
        rows += [("_count", self._number)]
        return _metric("prediction_seconds", "histogram", "Seconds that a prediction ran.", rows)


def _metric(name: str, kind: str, what: str, rows: Iterable[tuple[str, float]]) -> str:
    name = f"segstudy_{name}"
    lines = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    return "\n".join([*lines, *(f"{name}{labels} {value}" for labels, value in rows)]) + "\n"
