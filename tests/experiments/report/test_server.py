"""`tangential report --serve`: loopback only, two paths, and the news of runs that go on."""

import http.client
import logging
import socket
import threading

import pytest

from support.hostile_folders import CASES, good_runs, hostile_run
from support.run_folders import data, write_run
from tangential.experiments.report import page
from tangential.experiments.report import server as server_module
from tangential.experiments.report.server import ADDRESS, Followed, Server


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def test_page_and_news_are_served_and_cannot_be_kept_or_framed(serve, tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    server = serve(tmp_path)
    answer, text = ask(server, "/")
    assert answer.status == 200
    assert "connect-src 'self'" in text
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "epoch 1 of 3" in ask(server, "/live")[1]
    assert ask(server, "/", "HEAD")[1] == ""


def test_news_come_when_a_file_changes_and_only_then(serve, tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    server = serve(tmp_path)
    revision = ask(server, "/live")[0].headers["ETag"]
    answer, text = ask(server, "/live", **{"If-None-Match": revision})
    assert (answer.status, text) == (304, "")
    run.append({"epoch": 2, "train_loss": 0.1, "test_accuracy": 0.75})
    answer, text = ask(server, "/live", **{"If-None-Match": revision})
    assert answer.status == 200
    assert answer.headers["ETag"] != revision
    assert data(text)["charts"][0]["lines"][0]["mean"] == [50.0, 75.0]


def test_run_that_begins_later_appears(serve, tmp_path):
    server = serve(tmp_path)
    assert "No run has begun here yet." in ask(server, "/live")[1]
    write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    assert "epoch 1 of 3" in ask(server, "/live")[1]


def test_broken_file_is_said_and_the_server_lives_on(serve, tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    server = serve(tmp_path)
    whole = (run.path / "metrics.jsonl").read_text()
    (run.path / "metrics.jsonl").write_text("<nonsense>\n")
    answer, text = ask(server, "/live")
    assert answer.status == 200
    assert "line 1 is not JSON" in text
    (run.path / "metrics.jsonl").write_text(whole)
    assert "line 1 is not JSON" not in ask(server, "/live")[1]


def test_broken_facts_are_said_too(serve, tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5], epochs=3)
    run.invariances.write_text("[]")
    answer, text = ask(serve(tmp_path), "/live")
    assert answer.status == 200
    assert "invariances.json of sgd is broken" in text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "127.0.0.1", "[::1]:{port}", ""]
)
def test_foreign_name_gets_nothing(serve, tmp_path, host):
    write_run(tmp_path, "sgd", 0, [0.5])
    server = serve(tmp_path)
    answer, text = ask(server, "/", Host=host.format(port=server.server_port))
    assert answer.status == 421
    assert "sgd" not in text


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_this_machine_s_own_names_are_answered(serve, tmp_path, host):
    server = serve(tmp_path)
    assert ask(server, "/live", Host=host.format(port=server.server_port))[0].status == 200


@pytest.mark.parametrize(
    "path",
    ["/sgd-seed0/settings.json", "/../settings.json", "/%2e%2e/settings.json", "//etc/passwd", "/live/", "/?a", "*"],
)
def test_there_is_nothing_but_the_report(serve, tmp_path, path):
    write_run(tmp_path, "sgd", 0, [0.5])
    answer, text = ask(serve(tmp_path), path)
    assert answer.status == 404
    assert "compared" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(serve, tmp_path, method):
    assert ask(serve(tmp_path), "/", method)[0].status == 501


def test_only_this_machine_is_listened_to(serve, tmp_path):
    assert serve(tmp_path).server_address[0] == "127.0.0.1"


def test_port_that_is_taken_or_impossible_is_refused(tmp_path):
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}: .*choose another --port"):
            Server(Followed((tmp_path,)), port)
    with pytest.raises(ValueError, match="port 70000: must be from 0"):
        Server(Followed((tmp_path,)), 70000)


@pytest.mark.parametrize("name", ["no settings", "settings.json deep", "metrics.jsonl is a folder", "facts 0"])
def test_one_broken_run_hides_no_other(serve, tmp_path, name):
    good_runs(tmp_path)
    run = hostile_run(tmp_path, name)
    answer, text = ask(serve(tmp_path), "/live")
    assert answer.status == 200
    assert f"Left out: {run.path}" in text
    assert [group["seeds"] for group in data(text)["groups"]] == [3]


@pytest.mark.parametrize("name", [name for name in CASES if " is a" in name])
def test_unexpected_kind_of_file_gets_an_answer(serve, tmp_path, name, capfd):
    good_runs(tmp_path)
    hostile_run(tmp_path, name)
    server = serve(tmp_path)
    for path in ("/", "/live"):
        answer, text = ask(server, path)
        assert answer.status == 200
        assert [group["label"] for group in data(text)["groups"]] == ["sgd"]
    assert capfd.readouterr().err == ""


def test_failure_that_nobody_thought_of_is_named_on_the_page_and_in_the_log(
    serve, tmp_path, monkeypatch, caplog, capfd
):
    def fail(*_, **__):
        raise RuntimeError("unthought of")

    good_runs(tmp_path)
    server = serve(tmp_path)
    monkeypatch.setattr(server_module, "gather", fail)
    with caplog.at_level(logging.WARNING, "tangential"):
        answer, text = ask(server, "/")
    assert answer.status == 200
    assert "The page cannot be made: RuntimeError: unthought of" in text and "Traceback" not in text
    assert "unthought of" in caplog.text
    monkeypatch.setattr(page, "render", fail)
    server.followed._rendered.clear()
    answer, text = ask(server, "/")
    assert (answer.status, text) == (500, "The report cannot be made.")
    assert "Traceback" not in capfd.readouterr().err


class Slow:
    """A server whose requests have little time."""

    def __init__(self, folder, seconds):
        self.server = Server(Followed((folder,)), port=0, seconds=seconds)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def connect(server):
    return socket.create_connection((ADDRESS, server.server_port), timeout=60)


def until_closed(connection):
    """What comes until the server hangs up; a timeout of the test if it never does."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127"])
def test_request_that_is_not_complete_in_time_is_dropped(tmp_path, sent, capfd):
    with Slow(tmp_path, (0.3, 60)) as server, connect(server) as connection:
        connection.sendall(sent)
        assert b"200" not in until_closed(connection)
    assert capfd.readouterr().err == ""


def test_request_that_comes_byte_by_byte_has_no_more_time(tmp_path):
    with Slow(tmp_path, (0.5, 60)) as server, connect(server) as connection:
        closed = threading.Event()

        def drip():
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
                if closed.wait(0.02):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

        sender = threading.Thread(target=drip)
        sender.start()
        assert until_closed(connection) == b""
        closed.set()
        sender.join()


def test_answer_that_is_not_taken_in_time_is_given_up(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Followed, "page", lambda self: "x" * 50_000_000)
    with Slow(tmp_path, (60, 0.3)) as server, connect(server) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        threading.Event().wait(1.5)
        assert len(until_closed(connection)) < 50_000_000
    assert capfd.readouterr().err == ""


def test_connections_too_many_are_closed_and_the_server_answers_on(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "CONNECTIONS", 4)
    with Slow(tmp_path, (60, 60)) as server:
        idle = [connect(server) for _ in range(4)]
        threading.Event().wait(0.3)
        with connect(server) as another:
            assert until_closed(another) == b""
        for each in idle:
            each.close()
        for _ in range(100):
            try:
                assert ask(server, "/live")[0].status == 200
                break
            except (ConnectionError, http.client.BadStatusLine):
                threading.Event().wait(0.05)
        else:
            pytest.fail("places were not freed")


@pytest.mark.parametrize(
    "request_lines",
    [
        "GET / HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
        "GET /" + "a" * 70_000 + " HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" + "X: y\r\n" * 500 + "\r\n",
        "TRACE / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
    ],
    ids=range(9),
)
def test_odd_request_gets_no_runs_and_no_traceback(tmp_path, capfd, request_lines):
    good_runs(tmp_path)
    with Slow(tmp_path, (5, 5)) as server, connect(server) as connection:
        connection.sendall(request_lines.replace("{port}", str(server.server_port)).encode())
        answer = until_closed(connection)
    assert b"sgd" not in answer and b"Traceback" not in answer
    assert capfd.readouterr().err == ""
