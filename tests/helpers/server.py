"""A web server on the loopback interface that serves, breaks off and refuses as it is told."""

import hashlib
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Site:
    """What the server does, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    etag: str = '"one"'
    kind: str = "application/octet-stream"
    cut: list[int] = field(
        default_factory=list
    )  # bytes after which a transfer breaks, for the first transfers
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    sent: int = 0
    gate: threading.Event | None = None
    pause: float = 0.0  # seconds between two pieces of a body
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        site = self.server.site
        wanted = self.headers.get("Range")
        site.asked.append((self.path, wanted))
        if "missing" in self.path:
            return self.send_error(404)
        if site.gate:
            site.gate.wait(10)
        start = (
            int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
        )
        if start and self.headers.get("If-Range", site.etag) != site.etag:
            start = 0
        if start >= len(site.body) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.body)}")
            return self.end_headers()
        part = site.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", site.kind)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", site.etag)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}"
            )
        self.end_headers()
        part = part[: site.cut.pop(0)] if site.cut else part
        site.sent += len(
            part
        )  # before it is written: who has read it all may look at the count at once
        if site.pause:
            return self.send_slowly(part, site.pause)
        self.wfile.write(part)
        return None

    def send_slowly(self, part, pause):
        with suppress(OSError):  # whoever asked may be killed
            for start in range(0, len(part), 2**18):
                self.wfile.write(part[start : start + 2**18])
                time.sleep(pause)

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def serving(**settings):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(**settings, url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
