"""The notebooks run from top to bottom, show what they say, and are kept without outputs."""

import json
import warnings

import pytest

from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def run(path):
    """The names that the code leaves behind; a cell is compiled on its own, as in Jupyter."""
    pytest.importorskip("matplotlib").use("Agg")
    names = {"__name__": "__main__"}
    for number, code in enumerate(cells(path, "code")):
        exec(compile(code, f"{path.name}, cell {number}", "exec"), names)
    if "pyplot" in names:
        names["pyplot"].close("all")
    return names


def test_adamw_loses_its_steps_and_adamp_keeps_them():
    pytest.importorskip("sklearn")
    names = run(ROOT / "examples" / "notebooks" / "adamw_loses_its_steps.ipynb")
    first, last = (
        {name: names["curve"](records, "effective_step")[1][at] for name, records in names["runs"].items()}
        for at in (0, -1)
    )
    assert names["growth"]["AdamW"] > 1.2 * names["growth"]["AdamP"]
    assert last["AdamW"] / first["AdamW"] < last["AdamP"] / first["AdamP"]


def test_adamp_goes_into_a_loop_a_running_adamw_and_lightning():
    pytest.importorskip("lightning")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        names = run(ROOT / "examples" / "notebooks" / "swap_into_your_trainer.ipynb")
    assert names["found"]["0.weight"] is not None
    assert names["latest"]["step"] == 8 and names["latest"]["weights"]["net.0.weight"]["angle"] > 0


def test_the_paper_holds(capsys):
    names = run(ROOT / "examples" / "notebooks" / "paper_in_ten_minutes.ipynb")
    lines = capsys.readouterr().out
    assert lines.count(": holds") == 6 and "FAILS" not in lines
    _, momentum, ours = names["trajectories"]
    assert momentum.norms[-1] > 2 * ours.norms[-1] and momentum.losses[-1] > ours.losses[-1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean_and_begin_with_their_title(path):
    content = json.loads(path.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert cells(path, "markdown")[0].startswith("# ")
    assert f"examples/notebooks/{path.name}" in (ROOT / "README.md").read_text()
