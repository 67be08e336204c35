"""Services whose process that predicts is pretended."""

import threading
from dataclasses import replace

import pytest

from segstudy.serve.access import Access
from segstudy.serve.limits import Limits
from serve_answers import Pretended, predict


@pytest.fixture
def gate():
    """Holds predictions up until it is set."""
    return threading.Event()


@pytest.fixture
def serve(tmp_path):
    """Start services with a pretended worker; each is ended with the test, or by `stop`."""
    for needed in ("fastapi", "uvicorn", "python_multipart", "httpx"):
        pytest.importorskip(
            needed, reason="needs the extra serve, and httpx: pip install 'segstudy[serve]' httpx"
        )
    from fastapi.testclient import TestClient

    from segstudy.serve.app import make_app
    from segstudy.serve.run import running

    stack = []

    def start(do=predict, access=None, **limits):
        workers = []

        def start_worker():
            workers.append(Pretended(do))
            return workers[-1]

        access = Access("", ("localhost",)) if access is None else access
        context = running(
            tmp_path / "served", start_worker, replace(Limits(voxels=10_000_000), **limits), access
        )
        service = context.__enter__()
        stack.append(context)
        client = TestClient(
            make_app(service), base_url="http://localhost", raise_server_exceptions=False
        )
        client.service, client.workers = service, workers
        client.stop = lambda: stack.remove(context) or context.__exit__(None, None, None)
        return client

    yield start
    for context in stack:
        context.__exit__(None, None, None)
