"""The page of runs that still go on, for browsers on this machine.

It answers on the loopback address only, to two paths, and only where the browser asked for this machine by name: a
foreign site whose name is made to point here gets nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from tangential.experiments.report import page
from tangential.experiments.report.comparison import Comparison, gather
from tangential.experiments.runs.folder import INVARIANCES, METRICS, SETTINGS, TELEMETRY, RunFolder, find

ADDRESS = "127.0.0.1"
PORT = 8060

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass
class Followed:
    """Folders of runs, read again when a file of theirs has changed.

    Args:
        folders: Run folders, or folders of run folders; they need not hold a run yet.
    """

    folders: tuple[Path, ...]
    _lock: Lock = field(default_factory=Lock, repr=False)
    _news: tuple[str, str] = ("", "")

    def page(self) -> str:
        """Write the whole page as it is now."""
        return self._render(scripts=True)

    def news(self) -> tuple[str, str]:
        """What an open page needs to be as this one, and a word that is another whenever that has changed."""
        with self._lock:
            revision = self.revision()
            if revision != self._news[0]:
                self._news = revision, self._render(scripts=False)
            return self._news

    def revision(self) -> str:
        """A word that changes when a file does."""
        marks = [f"{path}:{mark.st_mtime_ns}:{mark.st_size}" for path, mark in self._files()]
        return f'"{hashlib.sha256(repr(marks).encode()).hexdigest()[:16]}"'

    def _files(self) -> Iterable[tuple[Path, os.stat_result]]:
        for run in self._runs():
            for name in (SETTINGS, METRICS, TELEMETRY, INVARIANCES):
                path = run.path / name
                if path.exists():
                    yield path, path.stat()

    def _runs(self) -> list[RunFolder]:
        """The runs that are there by now."""
        begun = []
        for folder in self.folders:
            try:
                begun += find([folder])
            except ValueError:
                continue
        return begun

    def _render(self, *, scripts: bool) -> str:
        """Write the page; where a file cannot be read it says which and why, and asks again when that has changed."""
        runs = self._runs()
        try:
            comparison, said = gather(runs, follow=True), "" if runs else "No run has begun here yet."
            return page.render(comparison, live=True, scripts=scripts, error=said)
        except (ValueError, OSError) as error:
            return page.render(Comparison((), 0), live=True, scripts=scripts, error=str(error))


class Server(ThreadingHTTPServer):
    """Serves the page of some folders until it is told to stop.

    Args:
        followed: What to show.
        port: Where; 0 for any that is free.

    Raises:
        ValueError: The port is out of range, or taken.
    """

    daemon_threads = True

    def __init__(self, followed: Followed, port: int = PORT) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port}: must be from 0 (any that is free) to 65535")
        self.followed = followed
        try:
            super().__init__((ADDRESS, port), _Answers)
        except OSError as error:
            raise ValueError(f"port {port}: {error.strerror}; choose another --port, or 0 for any") from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away while it was answered; anything else is an error to see."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Answers(BaseHTTPRequestHandler):
    server_version = "tangential"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, or with its news."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the page."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        assert isinstance(self.server, Server)
        followed = self.server.followed
        names = (f"{name}:{self.server.server_port}" for name in (ADDRESS, "localhost"))
        if self.headers.get("Host", "").lower() not in names:
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, "This page is for this machine only.", body=body)
        if self.path == "/":
            return self._send(HTTPStatus.OK, followed.page(), body=body)
        if self.path != "/live":
            return self._send(HTTPStatus.NOT_FOUND, "There is nothing but the report here.", body=body)
        known = self.headers.get("If-None-Match")
        if known is not None and known == followed.revision():
            return self._send(HTTPStatus.NOT_MODIFIED, "", body=False)
        revision, text = followed.news()
        return self._send(HTTPStatus.OK, text, body=body, revision=revision)

    def _send(self, status: HTTPStatus, text: str, *, body: bool, revision: str = "") -> None:
        content = text.encode()
        self.send_response(status)
        kind = "text/html" if status is HTTPStatus.OK else "text/plain"
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content))}
        headers |= {"ETag": revision} if revision else {}
        for name, value in (_HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: who watches the terminal wants to see errors only."""
