"""On a Ray cluster of two nodes: a killed worker and a lost node cost no finished epoch, and change no result."""

import sys
from importlib.util import find_spec

import pytest

from support import postgresql
from support.killed_runs import kill, when_under_way
from support.run_bits import bits
from tangential.cli import app as cli

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed; `make engines` runs this"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

TRAIN = ("train", "digits", "--smoke", "epochs=40", "--only", "sgd", "--only", "adamp", "--logger", "none")
SWEEP = ("sweep", "digits", "--smoke", "epochs=40", "optimizers.sgd.lr=1e-3..1", "optimizers.sgdp.lr=1e-3..1")
SWEEP += ("--trials", "3", "--heartbeat", "1")
COMPARE = ("compare", "digits", "--smoke", "--only", "sgdp", "optimizers.*.lr=0.01..1", "--trials", "3", "--seeds", "2")
ON_RAY = ("--engine", "ray", "--workers", "2")


@pytest.fixture(scope="module")
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.spare = made.add_node(num_cpus=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_ADDRESS", made.address)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Arguments -> what the command makes in this process alone."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *arguments, "--out", str(tmp_path / "alone")])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert ended.value.code == 0
        return bits(tmp_path / "alone")

    return run


@pytest.fixture
def on_ray(tmp_path, monkeypatch, cluster):
    """Arguments -> what the command makes on the cluster."""

    def run(*arguments):
        out = str(tmp_path / "ray")
        monkeypatch.setattr(sys, "argv", ["tangential", *arguments, *ON_RAY, "--out", out])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        assert ended.value.code == 0
        return bits(tmp_path / "ray")

    return run


def test_comparison_is_that_of_one_process(alone, on_ray):
    assert on_ray(*COMPARE) == alone(*COMPARE)


def test_a_killed_worker_of_a_search_loses_no_epoch(tmp_path, alone, on_ray, monkeypatch, capsys):
    if reason := postgresql.why_not():
        pytest.skip(reason)
    with postgresql.server() as url, when_under_way(tmp_path / "ray", kill):
        made = on_ray(*SWEEP, "--storage", url)
    table = capsys.readouterr().out.split("best settings")[1]
    assert made == alone(*SWEEP)
    assert capsys.readouterr().out.split("best settings")[1] == table


def test_a_lost_node_costs_no_epoch(tmp_path, alone, on_ray, cluster):
    with when_under_way(tmp_path / "ray", lambda metrics: cluster.remove_node(cluster.spare)):
        made = on_ray(*TRAIN)
    assert made == alone(*TRAIN)
