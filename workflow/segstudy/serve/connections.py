"""Connections of the service, none of which may keep it waiting: uvicorn with a bound on how long a client says nothing.

uvicorn has such a bound for a connection without a request (`timeout_keep_alive`) alone: neither for one on which no byte ever came,
nor for half a head, half a body, or an answer that nobody reads. Bodies that are read are `app.Guard`'s to watch.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 300
"""At a time, since a process may usually have 1,024 files open, and an upload takes two."""
IDLE_S = 20
"""For which a connection is kept for a client's next request."""


def server(app: Callable[..., Any], stall_seconds: float) -> uvicorn.Server:
    """Return what answers HTTP/1.1 by an application.

    Parameters
    ----------
    app
        ASGI.
    stall_seconds
        Within which a request's head must be whole, and some bytes of any other part must have been sent or read.
    """

    class Patient(PatientProtocol):
        stall_s = stall_seconds

    config = uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=1 << 16,
        backlog=128,  # this many are taken before room is made
    )
    return uvicorn.Server(config)


class PatientProtocol(H11Protocol):
    """Close a connection on which the client is due and does nothing for `stall_s` seconds, and the idlest one where there are too many."""

    stall_s = 60.0

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._due: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request, and make room."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) <= CONNECTIONS:
            return
        there = [one for one in self.connections if not one.transport.is_closing()]
        if len(there) > CONNECTIONS:
            # The new one is among them, so that it is closed where all others are at work.
            idle = [one for one in there if one.cycle is None or one.cycle.response_complete]
            min(idle, key=lambda one: one._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a head give no more time, those of a body do."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()
        elif self.conn.their_state is not h11.IDLE:
            self._since = self.loop.time()
            self._wait_no_more()
        elif self._due is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()
        self._expect_no_more()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read some of an answer."""
        super().pause_writing()
        self._expect_less_than(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on, as the client has read enough."""
        self._expect_no_more()
        super().resume_writing()

    def _wait(self) -> None:
        self._wait_no_more()
        self._since = self.loop.time()
        self._due = self.loop.call_later(self.stall_s, self._give_up)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _give_up(self) -> None:
        self._due = None
        if self.conn.their_state is h11.SEND_BODY and not self.cycle.response_complete:
            self._wait()  # read, or not, as the application likes
        else:
            self.transport.abort()

    def _expect_less_than(self, size: int) -> None:
        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left < size:
                self._expect_less_than(left)
            else:
                self.transport.abort()

        self._unread = self.loop.call_later(self.stall_s, look)

    def _expect_no_more(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
