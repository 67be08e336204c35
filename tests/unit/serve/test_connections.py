"""Clients that keep the service waiting, by real sockets of this machine; skipped without FastAPI."""

import http.client
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from upload_faults import nifti

FORM = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=a\r\nContent-Length: %d\r\n\r\n"
BODY = (
    b'--a\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    + nifti()
    + b"\r\n--a--\r\n"
)


def until(is_so):
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.02)
    assert is_so()


class Listening:
    """A service that listens in a thread."""

    def __init__(self, client, stall_seconds):
        from segstudy.serve import connections  # needs uvicorn

        self.service = client.service
        self.server = connections.server(client.app, stall_seconds)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],))
        self._thread.start()
        until(lambda: self.server.started)

    def connect(self, content=b""):
        made = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        made.sendall(content)
        return made

    def ask(self, method, path, **more):
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        connection.request(method, path, **more)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def end(self):
        self.server.should_exit = True
        self._thread.join()


@pytest.fixture
def listen(serve):
    started, sockets = [], []

    def start(stall_seconds):
        started.append(Listening(serve(stall_seconds=stall_seconds), stall_seconds))
        connect = started[-1].connect
        started[-1].connect = lambda *words: sockets.append(connect(*words)) or sockets[-1]
        return started[-1]

    yield start
    for one in sockets:
        one.close()
    for one in started:
        one.end()


def last_words(connection):
    """All that the service still says, until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_clients_that_stop_half_way_are_cut_off(listen):
    """No byte, half a head, half a body, half of one that nobody reads, an answer that is not read: ten each."""
    service = listen(0.5)
    half = FORM % (b"/predictions", len(BODY)) + BODY[:200]
    refused = FORM % (b"/nowhere", len(BODY)) + BODY[:200]
    unread = b"GET /niivue.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8
    kinds = [b"", b"GET /health HTT", half, refused, unread]
    silent, heads, halves, answered, _ = [[service.connect(kind) for _ in range(10)] for kind in kinds]  # fmt: skip
    assert service.ask("GET", "/health")[0] == 200
    assert {last_words(one) for one in (*silent, *heads)} == {b""}
    for one in halves:
        head, _, problem = last_words(one).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"problem+json" in head
        assert json.loads(problem)["detail"] == "The upload stopped: send it again."
    for one in answered:
        assert last_words(one).startswith(b"HTTP/1.1 404 ")
    until(lambda: not service.server.server_state.connections)
    assert list(service.service.folder.incoming.iterdir()) == []


def test_a_head_that_comes_drop_by_drop_is_cut_off(listen):
    service = listen(0.5)
    slow = service.connect(b"GET /health HTTP/1.1\r\n")
    with pytest.raises(OSError):  # noqa: PT011, a pipe that broke, or was reset
        for _ in range(3000):
            slow.sendall(b"X-More: 1\r\n")
            time.sleep(0.02)


def test_a_slow_upload_that_goes_on_is_taken(listen):
    """In pieces that together take longer than one may wait for one."""
    service = listen(1.5)
    slow = service.connect(FORM % (b"/predictions", len(BODY)))
    step = -(-len(BODY) // 12)
    for begin in range(0, len(BODY), step):
        time.sleep(0.2)
        slow.sendall(BODY[begin : begin + step])
    assert slow.recv(1 << 16).startswith(b"HTTP/1.1 202 ")


def test_where_too_many_connect_the_idlest_goes(listen, monkeypatch):
    """Nobody is kept out by connections that ask nothing, and no upload is lost to them."""
    from segstudy.serve import connections

    monkeypatch.setattr(connections, "CONNECTIONS", 10)
    service = listen(60)
    half = service.connect(FORM % (b"/predictions", len(BODY)) + BODY[:200])
    until(lambda: service.server.server_state.tasks)
    silent = [service.connect() for _ in range(20)]
    assert [last_words(one) for one in silent[:10]] == [b""] * 10
    assert service.ask("GET", "/health")[0] == 200
    half.sendall(BODY[200:])
    assert half.recv(1 << 16).startswith(b"HTTP/1.1 202 ")


def test_an_upload_is_cut_off_where_the_disk_fills_under_it(listen, monkeypatch):
    """By bytes whose number nobody told, or by several uploads at a time."""
    from segstudy.serve import app

    service, sent = listen(60), []

    def usage(_):
        return SimpleNamespace(free=app.SPARE_BYTES + 1_000_000 - 50_000 * len(sent))

    def chunks():
        yield b'--a\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(100):
            sent.append(1)
            yield bytes(50_000)
        yield b"\r\n--a--\r\n"

    monkeypatch.setattr(app.shutil, "disk_usage", usage)
    headers = {"Content-Type": "multipart/form-data; boundary=a"}
    status, problem = service.ask(
        "POST", "/predictions", body=chunks(), headers=headers, encode_chunked=True
    )
    assert (status, json.loads(problem)["status"]) == (507, 507)
    assert list(service.service.folder.incoming.iterdir()) == []


def test_head_over_the_wire(listen):
    service = listen(60)
    assert service.ask("HEAD", "/niivue.js") == (200, b"")
    asked = service.connect(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert last_words(asked).endswith(b"\r\n\r\n")
