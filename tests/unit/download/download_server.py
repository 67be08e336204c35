"""A real HTTP server on the loopback address that can misbehave on purpose."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What the server does, and the `Range` header of each request that it saw.

    break_after: bytes sent before the connection is cut, one entry a request; None sends all.
    """

    content: bytes
    url: str = ""
    ranges: bool = True
    etag: str | None = '"one"'
    break_after: list[int | None] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    encoding: str | None = None
    length: bool = True
    seen: list[str | None] = field(default_factory=list)


@contextmanager
def serve(content: bytes, **behaviour):
    server = Server(content, **behaviour)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked = self.headers.get("Range")
            server.seen.append(asked)
            if server.errors:
                self.send_error(server.errors.pop(0))
                return
            start = 0
            same = self.headers.get("If-Range", server.etag) == server.etag
            if asked and server.ranges and same:
                start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(server.content) > 0 and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = server.content[start:]
            self.send_response(206 if start else 200)
            if server.length:
                self.send_header("Content-Length", str(len(body)))
            if start:
                last = len(server.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            if server.encoding:
                self.send_header("Content-Encoding", server.encoding)
            self.end_headers()
            limit = server.break_after.pop(0) if server.break_after else None
            self.wfile.write(body[:limit])

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/set.tar"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
