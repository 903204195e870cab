# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub of one's own: an HTTP server that answers what huggingface_hub asks, and fails as it is told to."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 10_000  # bytes from which on a file is kept elsewhere, as the hub does
HUGE = 2**20  # bytes of a file that the connection's faults are for


@dataclass
class Hub:
    """What it has, and what goes wrong. ``asked``: (method, path, range) of every request."""

    name: str
    revision: str
    files: dict[str, bytes]
    status: int = 200  # of files
    headers: dict[str, str] = field(default_factory=dict)  # with that status
    cut: list[int] = field(default_factory=list)  # bytes after which the next answers with a huge file are cut off
    wrong: int = 0  # how many huge files arrive with another last byte
    slow: float = 0.0  # seconds between two pieces of a huge file
    piece: int = 64 * 1024  # bytes
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sent(self, name: str) -> list[str]:
        """The ranges that were asked for of a file, in order."""
        return [asked for _, path, asked in self.asked if path == f"/cdn/{name}"]

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        asked = request.headers.get("Range", "")
        self.asked.append((request.command, path, asked))
        if path == f"/api/models/{self.name}/revision/{self.revision}":
            self._send(request, 200, json.dumps(self.listing()).encode(), body)
        elif path.startswith(f"/{self.name}/resolve/{self.revision}/"):
            file = path.removeprefix(f"/{self.name}/resolve/{self.revision}/")
            if self.status != 200:
                self._send(request, self.status, b"no", body, self.headers)
            elif len(self.files[file]) >= LARGE:
                self._send(request, 302, b"", body, {"Location": f"{self.url}/cdn/{file}?signed=1"})
            else:
                self._send(request, 200, self.files[file], body)
        elif path.startswith("/cdn/"):
            self._file(request, self.files[path.removeprefix("/cdn/")], asked)
        else:
            self._send(request, 404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def listing(self) -> dict:
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) >= LARGE:
                entry["lfs"] = {
                    "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130,
                }  # fmt: skip
            siblings.append(entry)
        return {"id": self.name, "modelId": self.name, "sha": self.revision, "private": False, "siblings": siblings}

    def _send(self, request, status: int, content: bytes, body: bool, headers: dict | None = None) -> None:
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if body:
            request.wfile.write(content)

    def _file(self, request, content: bytes, asked: str) -> None:
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if self.wrong and len(content) > HUGE:
            self.wrong -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        end = start + self.cut.pop(0) if self.cut and len(content) > HUGE else len(content)
        for at in range(start, min(end, len(content)), self.piece):
            request.wfile.write(content[at : min(at + self.piece, end)])
            request.wfile.flush()
            time.sleep(self.slow if len(content) > HUGE else 0)
        if end < len(content):
            request.close_connection = True
            request.connection.close()
