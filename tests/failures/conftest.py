"""The tiny study run once undisturbed, to compare with what befalls it in the tests of this folder."""

import pytest

from kills import build, digests


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The workspace after an undisturbed run, and the digests of what it wrote."""
    workspace = build(tmp_path_factory.mktemp("failures"))
    workspace.run()
    return workspace, digests(workspace.results)
