"""Server of the report's page for unfinished runs, for browsers on this machine.

It listens on the loopback address only, has two paths, and answers only requests whose Host header names this machine:
a foreign site whose name is made to resolve to this address gets nothing. What it shows may come from a stranger and
what it is asked may come from any program here, so nothing that either does ends it: a run that cannot be read is left
out and named, a request that is not complete in time is dropped, and there are at most `CONNECTIONS` at once.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import BoundedSemaphore, Lock, Timer
from typing import Any

from tangential.experiments.report import page
from tangential.experiments.report.comparison import Comparison, gather
from tangential.experiments.report.run_files import candidates
from tangential.experiments.runs.folder import ENVIRONMENT, INVARIANCES, METRICS, SETTINGS, TELEMETRY, RunFolder

ADDRESS = "127.0.0.1"
PORT = 8060
CONNECTIONS = 64
"""Connections at once; a browser has at most six."""

REQUEST, ANSWER = 10.0, 120.0
"""Seconds until a request must be complete, and until its answer must be taken, perhaps through a slow tunnel."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = logging.getLogger("tangential")


@dataclass
class Followed:
    """Folders of runs, read again when a file of theirs has changed.

    Args:
        folders: Run folders, or folders of run folders; they need not hold a run yet.
    """

    folders: tuple[Path, ...]
    _lock: Lock = field(default_factory=Lock, repr=False)
    _rendered: dict[bool, tuple[str, str]] = field(default_factory=dict, repr=False)

    def page(self) -> str:
        """The whole page as it is now."""
        return self._current(scripts=True)[1]

    def news(self) -> tuple[str, str]:
        """The revision of the page, and the page without its scripts, for an open one to be updated from."""
        return self._current(scripts=False)

    def revision(self) -> str:
        """A tag that changes whenever a file does."""
        return f'"{hashlib.sha256(repr(list(self._marks())).encode()).hexdigest()[:16]}"'

    def _current(self, *, scripts: bool) -> tuple[str, str]:
        with self._lock:
            revision = self.revision()
            known = self._rendered.get(scripts)
            if known is None or known[0] != revision:
                known = self._rendered[scripts] = revision, self._render(scripts=scripts)
            return known

    def _marks(self) -> Iterable[tuple[str, int, int]]:
        for run in self._runs():
            for name in (SETTINGS, ENVIRONMENT, METRICS, TELEMETRY, INVARIANCES):
                path = run.path / name
                try:
                    mark = path.stat()
                except OSError:
                    yield str(path), 0, 0
                else:
                    yield str(path), mark.st_mtime_ns, mark.st_size

    def _runs(self) -> list[RunFolder]:
        """The runs that are there by now."""
        begun = []
        for folder in self.folders:
            try:
                begun += candidates([folder])
            except (ValueError, OSError):
                continue
        return begun

    def _render(self, *, scripts: bool) -> str:
        runs = self._runs()
        missing = "" if runs else "No run has begun here yet."
        try:
            comparison = gather(runs, follow=True, skip_broken=True)
            return page.render(comparison, live=True, scripts=scripts, error=missing)
        except (
            Exception
        ) as error:  # whatever a run may hold that nobody thought of: the page stays, and names the error
            _log.warning("the page cannot be made: %s: %s", type(error).__name__, error)
            problem = f"The page cannot be made: {type(error).__name__}: {error}"
            return page.render(Comparison((), 0), live=True, scripts=scripts, error=problem)


class Server(ThreadingHTTPServer):
    """Serves the page of some folders until `shutdown`.

    Args:
        followed: The folders.
        port: The port; 0 for any that is free.
        seconds: Until a request must be complete, and until its answer must be taken.

    Raises:
        ValueError: The port is out of range, or taken.
    """

    daemon_threads = True

    def __init__(
        self, followed: Followed, port: int = PORT, *, seconds: tuple[float, float] = (REQUEST, ANSWER)
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port}: must be from 0 (any that is free) to 65535")
        self.followed = followed
        self.seconds = seconds
        self._places = BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((ADDRESS, port), _Answers)
        except OSError as error:
            raise ValueError(f"port {port}: {error.strerror}; choose another --port, or 0 for any") from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; a connection too many is closed."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log an error in one line, but not that a client went away or was too slow."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _log.warning("a request failed: %s: %s", type(error).__name__, error)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Answers(BaseHTTPRequestHandler):
    server_version = "tangential"
    sys_version = ""

    def setup(self) -> None:
        """Begin the time that a request has; a timeout of the socket alone would begin anew with each byte."""
        super().setup()
        seconds, _ = self._server.seconds
        self.connection.settimeout(seconds)
        self._deadline = Timer(seconds, _hang_up, [self.connection])
        self._deadline.daemon = True
        self._deadline.start()

    def parse_request(self) -> bool:
        """Read the rest of a request; then its time is over."""
        complete = super().parse_request()
        self._deadline.cancel()
        self.connection.settimeout(self._server.seconds[1])
        return complete

    def finish(self) -> None:
        """End the connection."""
        self._deadline.cancel()
        super().finish()

    @property
    def _server(self) -> Server:
        assert isinstance(self.server, Server)
        return self.server

    def do_GET(self) -> None:
        """Answer with the page, or with its changes."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the page."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        try:
            status, text, revision = self._found()
        except Exception as error:  # a client gets an answer, and no traceback
            _log.warning("a request failed: %s: %s", type(error).__name__, error)
            status, text, revision = HTTPStatus.INTERNAL_SERVER_ERROR, "The report cannot be made.", ""
        self._send(status, text, body=body, revision=revision)

    def _found(self) -> tuple[HTTPStatus, str, str]:
        """Status, text and revision of the answer."""
        followed = self._server.followed
        names = [f"{name}:{self._server.server_port}" for name in (ADDRESS, "localhost")]
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in names:
            return HTTPStatus.MISDIRECTED_REQUEST, "This page is for this machine only.", ""
        if self.path == "/":
            return HTTPStatus.OK, followed.page(), ""
        if self.path != "/live":
            return HTTPStatus.NOT_FOUND, "There is nothing but the report here.", ""
        known = self.headers.get("If-None-Match")
        if known is not None and known == followed.revision():
            return HTTPStatus.NOT_MODIFIED, "", ""
        revision, text = followed.news()
        return HTTPStatus.OK, text, revision

    def _send(self, status: HTTPStatus, text: str, *, body: bool, revision: str) -> None:
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
        """Log nothing of a request that was answered."""


def _hang_up(connection: socket) -> None:
    try:
        connection.shutdown(SHUT_RDWR)
    except OSError:
        return  # it is closed already
