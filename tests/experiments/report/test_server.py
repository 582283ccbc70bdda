"""`tangential report --serve`: loopback only, two paths, and the news of runs that go on."""

import http.client
import socket

import pytest

from support.run_folders import data, write_run
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
