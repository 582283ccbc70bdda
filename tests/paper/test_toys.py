"""The toys are those of the authors' videos and figure, any optimizer runs on them, and the pictures are made."""

import re
import subprocess
import sys
from functools import partial

import pytest
import torch

from support.paths import ROOT
from tangential.paper.toys import CIRCLE, SPHERE, optimizers, published, run, run_all, table
from tangential.paper.toys.optimizers import DECAY, GD, MOMENTUM, OURS, PROJECTED_BUFFER
from tangential.paper.toys.problems import circle, on_chart, on_sphere, valley

pytestmark = pytest.mark.slow

IMAGES = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def sphere_trajectories():
    torch.set_num_threads(1)
    return {trajectory.name: trajectory for trajectory in run_all(SPHERE, optimizers.on_sphere())}


@pytest.mark.parametrize("beta", optimizers.BETAS)
def test_every_number_of_the_videos_is_met(beta):
    trajectories = {trajectory.name: trajectory for trajectory in run_all(CIRCLE, optimizers.on_circle(beta))}
    for at, values in published.LOSSES[beta].items():
        assert {name: float(f"{trajectories[name].losses[at]:.4f}") for name in values} == values
    for at, values in published.NORMS[beta].items():
        assert {name: float(f"{trajectories[name].norms[at + 1]:.2f}") for name in values} == values


def test_thirty_losses_of_the_videos_are_compared():
    assert sum(len(values) for each in published.LOSSES.values() for values in each.values()) == 8 * 3 + 2 * 3
    assert set(published.LOSSES) == set(published.NORMS) == set(optimizers.BETAS)


@pytest.mark.parametrize("name", [MOMENTUM, DECAY, PROJECTED_BUFFER])
def test_the_first_forty_steps_are_the_figures(name, sphere_trajectories):
    assert len(published.FIGURE[name].first) == 41
    assert published.distance_from_figure(sphere_trajectories[name]) < 1e-4


def test_the_figure_was_not_drawn_with_algorithm_1(sphere_trajectories):
    trajectory = sphere_trajectories[OURS]
    first = torch.tensor(published.FIGURE[PROJECTED_BUFFER].first)
    assert (on_chart(trajectory.points[:41]) - first).norm(dim=1).max() > 0.1


@pytest.mark.parametrize("name", [MOMENTUM, DECAY, PROJECTED_BUFFER])
def test_norms_are_near_the_figures(name, sphere_trajectories):
    trajectory, figure = sphere_trajectories[name], published.FIGURE[name]
    assert trajectory.norms[-1] == pytest.approx(figure.final_norm, rel=0.015)
    assert trajectory.norms.max() == pytest.approx(figure.largest_norm, rel=0.015)


def test_the_largest_norm_under_decay_is_the_figures(sphere_trajectories):
    assert sphere_trajectories[DECAY].norms.max() == pytest.approx(published.FIGURE[DECAY].largest_norm, abs=1e-3)


def test_the_end_of_the_figure_hangs_on_the_seventh_digit(sphere_trajectories):
    nudged = partial(torch.optim.SGD, lr=0.05515692 * (1 + 1e-6), momentum=0.9)
    gap = run(SPHERE, nudged).points - sphere_trajectories[MOMENTUM].points
    assert gap[:41].norm(dim=1).max() < 2e-4 < 2e-2 < gap[-1].norm()


def test_the_projected_buffer_is_the_authors_code():
    adamp = pytest.importorskip("adamp")
    theirs = run(SPHERE, partial(adamp.SGDP, lr=0.044, momentum=0.9))
    ours = run(SPHERE, partial(optimizers.ProjectedBuffer, lr=0.044, momentum=0.9))
    torch.testing.assert_close(ours.points[:41], theirs.points[:41], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("loss", "toy"), [(circle, CIRCLE), (valley, SPHERE)])
def test_toys_do_not_feel_the_length(loss, toy):
    w = torch.randn(20, len(toy.start), dtype=torch.float64)
    torch.testing.assert_close(loss(37 * w), loss(w), rtol=1e-10, atol=1e-12)


def test_chart_and_sphere_undo_each_other():
    chart = torch.tensor([[-2.0, 2.0], [0.3, -0.7]], dtype=torch.float64)
    torch.testing.assert_close(on_chart(5 * on_sphere(chart)), chart)
    torch.testing.assert_close(on_chart(torch.tensor(SPHERE.start, dtype=torch.float64)), chart[0])


@pytest.mark.parametrize("toy", [CIRCLE, SPHERE])
@pytest.mark.parametrize(
    "text",
    [
        "torch.optim.AdamW(lr=0.01, betas=(0.9, 0.99))",
        "torch.optim.Adagrad(lr=0.1)",
        "tangential.AdamP(lr=0.01, nesterov=True)",
        "tangential.SGDP(lr=0.01, momentum=0.9)",
    ],
)
def test_any_optimizer_runs(toy, text):
    trajectory = run(toy, optimizers.named(text), name=text)
    assert len(trajectory.points) == len(trajectory.losses) == toy.steps + 1
    assert trajectory.losses[-1] < trajectory.losses[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AdamW",
        "AdamW(lr=0.1)",
        "torch.optim.AdamW",
        "torch.optim.AdamW(0.1)",
        "torch.optim.AdamW(lr=print(1))",
        "torch.optim.NoSuch(lr=0.1)",
        "no.such.module.Adam(lr=0.1)",
        "torch.nn.Linear(lr=0.1)",
        "torch.optim.AdamW(lr=0.1",
        "torch.optim.AdamW(**{'lr': 0.1})",
        "(lambda: 0)(lr=1)",
    ],
)
def test_what_is_no_optimizer_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match=r"torch\.optim\.(AdamW\(lr=0\.01\)|Optimizer)"):
        optimizers.named(text)


@pytest.mark.parametrize(("settings", "reason"), [("momentum=0.9", "momentum"), ("lr=-1", "learning rate")])
def test_settings_that_an_optimizer_does_not_take_are_refused_with_its_reason(settings, reason):
    with pytest.raises(ValueError, match=f"AdamW.*{reason}"):
        optimizers.named(f"torch.optim.AdamW({settings})")


def test_a_run_that_leaves_the_numbers_says_when():
    class Wild(torch.optim.SGD):
        def step(self, closure=None):
            super().step()
            self.param_groups[0]["params"][0].data.mul_(float("inf"))

    with pytest.raises(FloatingPointError, match="Wild is not finite after step 1 of the 2d toy"):
        run(CIRCLE, partial(Wild, lr=0.1))


def test_distance_from_the_figure_is_for_its_paths_only():
    with pytest.raises(ValueError, match="no trajectory of 'GD' on the 2d toy"):
        published.distance_from_figure(run(CIRCLE, partial(torch.optim.SGD, lr=0.01), name=GD))


def test_tables_show_what_is_the_same_as_published(sphere_trajectories):
    circle_text = "\n".join(table.circle_lines(run_all(CIRCLE, optimizers.on_circle(0.9)), beta=0.9))
    assert "video" not in circle_text.splitlines()[1] and circle_text.count("=") == 8 * 3 + 4 + 1
    other = "\n".join(table.circle_lines([run(CIRCLE, partial(torch.optim.SGD, lr=0.02), name=GD)], beta=0.9))
    assert "(video 0.0086)" in other
    sphere_text = "\n".join(table.sphere_lines(list(sphere_trajectories.values())))
    assert len(re.findall("the same to [1-9]e-05", sphere_text)) == 3 and "not in the figure" in sphere_text


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawing():
    pytest.importorskip("matplotlib")
    from tangential.paper.toys import drawing

    return drawing


@pytest.mark.parametrize("toy", ["2d", "3d"])
def test_pictures_and_animation_are_made_and_small(toy, drawing, tmp_path, sphere_trajectories):
    from PIL import Image

    from tangential.paper.toys import animation

    trajectories = run_all(CIRCLE, optimizers.on_circle()) if toy == "2d" else list(sphere_trajectories.values())
    own = run(trajectories[0].toy, partial(torch.optim.Adam, lr=0.01), name="Adam, $1 <b>&")
    files = animation.save_all([*trajectories, own], tmp_path / "new")
    assert [file.name for file in files] == [f"toy-{toy}.png", f"toy-{toy}.svg", f"toy-{toy}.gif"]
    assert all(file.stat().st_size < 300_000 for file in files)
    assert "<b>" not in files[1].read_text()
    with Image.open(files[2]) as moving:
        assert moving.n_frames == 60  # type: ignore[attr-defined]


def test_the_same_runs_give_the_same_file(drawing, tmp_path):
    trajectories = run_all(CIRCLE, optimizers.on_circle())
    first, second = (drawing.save(trajectories, tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second


def test_what_cannot_be_drawn_is_refused(drawing, tmp_path, sphere_trajectories):
    from tangential.paper.toys import animation

    flat = run(CIRCLE, partial(torch.optim.SGD, lr=0.01))
    with pytest.raises(ValueError, match="one toy at a time"):
        drawing.draw([flat, *sphere_trajectories.values()])
    with pytest.raises(ValueError, match="at least one run"):
        animation.save_all([], tmp_path)
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        drawing.save([flat], tmp_path / "toy.gif")
    with pytest.raises(ValueError, match=r"is a \.gif"):
        animation.save([flat], tmp_path / "toy.png")


@pytest.mark.parametrize("toy", ["2d", "3d"])
def test_pictures_of_the_documents_are_small(toy):
    assert 10_000 < (IMAGES / f"toy-{toy}.png").stat().st_size < 200_000


def test_toys_and_theory_need_no_drawing_library():
    loaded = "import sys, tangential.paper.toys.table, tangential.paper.theory; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.split()
    assert not {"matplotlib", "PIL", "rich"} & set(found)
