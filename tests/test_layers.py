"""The shape of the package: imports point down, importing it is cheap, files and functions stay small."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tangential

SOURCE = Path(tangential.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

EXPERIMENTS = "experiments"
RANKS = [
    {"algorithm", "blocks"},
    {"kernels"},
    {"backends"},
    {"sharding"},
    {"optimizers", "invariances"},
    {"telemetry", "timm", "experiments.settings", "experiments.task", "experiments.templates"},
    {"paper", "radial", "experiments.runs"},
    {"experiments.nets", "experiments.data", "experiments.engines"},
    {"experiments.tasks", "experiments.training"},
    {"experiments.recipes", "experiments.report"},
    {"experiments.sweep", "experiments.viewers"},
    {"experiments.comparison"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
OPTIONAL = ("jax", "optax", "triton", "torchvision", "rich", "typer", "plotly", "matplotlib", "sklearn", "jinja2")
OPTIONAL += (
    "pytorch_metric_learning",
    "lightning",
    "mlflow",
    "optuna",
    "scipy",
    "tensorboard",
    "timm",
    "transformers",
    "wandb",
)


def unit(parts):
    """The room that a dotted name belongs to: a module or folder at the top, or one of the experiments' wing."""
    return ".".join(parts[: 2 if parts[0] == EXPERIMENTS and len(parts) > 1 else 1])


def room(path):
    """The room a file lies in."""
    return unit([part.removesuffix(".py") for part in path.relative_to(SOURCE).parts if part != "__init__.py"])


def imports(path):
    """`(room, line)` of every import of our own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tangential":
            parts = node.module.split(".")[1:]
            for alias in node.names:
                yield unit([*parts, alias.name]), node.lineno


def upward(path):
    own = room(path)
    return [
        f"{path.name}:{line} imports {name}"
        for name, line in imports(path)
        if name in RANK and name != own and RANK[name] >= RANK[own]
    ]


def test_every_module_has_its_rank():
    faces = (SOURCE / "__init__.py", SOURCE / EXPERIMENTS / "__init__.py")
    assert {room(path) for path in FILES if path not in faces} == set(RANK)


@pytest.mark.parametrize("path", [f for f in FILES if f != SOURCE / "__init__.py"], ids=str)
def test_imports_point_down(path):
    assert upward(path) == []


def test_an_import_that_points_up_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    bad = tmp_path / "algorithm.py"
    bad.write_text("from tangential.optimizers import SGDP\n")
    assert upward(bad) == ["algorithm.py:1 imports optimizers"]


def test_algorithm_imports_no_array_library():
    tree = ast.parse((SOURCE / "algorithm.py").read_text())
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert modules <= {"__future__", "collections.abc", "dataclasses", "typing"}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules if '.' not in m))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_importing_the_package_loads_torch_and_nothing_optional():
    loaded = loaded_by("from tangential import *; print('torch')")  # every public name: each loads its own module
    assert "torch" in loaded
    assert not set(OPTIONAL) & set(loaded) - set(loaded_by("import torch"))


def test_torch_is_loaded_with_the_first_public_name_and_not_before():
    assert "torch" not in loaded_by("import tangential; tangential.__version__; dir(tangential)")
    assert "torch" in loaded_by("import tangential; tangential.AdamP")


FIRST_NAMES = """
import os, pickle, sys, torch
def check(name):
    import tangential
    x = getattr(tangential, name)
    assert pickle.loads(pickle.dumps(x)) is x
    assert name in dir(tangential) and name in vars(tangential)
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        check(name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each name, forked from one that has torch")
def test_each_public_name_loads_first_is_that_of_its_module_and_can_be_pickled():
    done = subprocess.run([sys.executable, "-c", FIRST_NAMES, *tangential.__all__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'AdamZ'"):
        tangential.AdamZ  # noqa: B018
    with pytest.raises(ImportError):
        from tangential import AdamZ  # noqa: F401


def test_a_costly_import_would_be_seen():
    assert "rich" in loaded_by("import rich")


def test_public_names_are_sorted_few_and_there():
    names = tangential.__all__
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert len(names) <= 12
    assert all(hasattr(tangential, name) for name in names)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or node.end_lineno - body[0].lineno < 45, f"{node.name} in {path.name}"
