"""A server of a folder of runs, for the tests of the report."""

import threading

import pytest

from tangential.experiments.report.server import Followed, Server


@pytest.fixture
def serve():
    """Start a server of a folder; it is stopped when the test ends."""
    started = []

    def start(folder):
        server = Server(Followed((folder,)), port=0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()
