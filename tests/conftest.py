"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no failure: no test's result goes by the clock.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C; nohup, SIGHUP.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """What runs the workflow comes first, so that no worker is left with a long file at the end."""
    folders = ("workflow", "failures")
    items.sort(key=lambda item: item.path.relative_to(REPOSITORY / "tests").parts[0] not in folders)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is no folder (set SEGSTUDY_DATA)")
    return folder
