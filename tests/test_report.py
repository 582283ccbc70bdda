import ast
import json
import re
from dataclasses import asdict
from html import unescape
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

import tangential.report
from tangential.report import charts, page, tables
from tangential.report.groups import gather
from tangential.runs import RunFolder, find
from tangential.task import ACCURACY

COMPARED = {"sgd": None, "sgdp": "sgd"}


def write_run(out, optimizer, seed, accuracies, *, epochs=None, compared=COMPARED, norm=1.0, **settings):
    run = RunFolder(out / f"run-{len(list(out.glob('*')))}")
    settings = {"recipe": "digits", "optimizer": optimizer, "seed": seed, "compared": compared} | settings
    settings |= {
        "headline": asdict(ACCURACY),
        "epochs": epochs or len(accuracies),
        "made_by": {"arguments": {"lr": 0.1}},
    }
    run.start(settings, {"command": "tangential train digits", "torch": "2.14"})
    for epoch, accuracy in enumerate(accuracies, start=1):
        numbers = {"weight_norm": norm * epoch, "effective_step": 0.1 / epoch, "ms_per_step": 2.0 + epoch}
        run.append({"epoch": epoch, "train_loss": 1 / epoch, "test_accuracy": accuracy} | numbers)
    return run


@pytest.fixture
def out(tmp_path):
    for seed, (plain, projected) in enumerate([(0.90, 0.91), (0.94, 0.97), (0.92, 0.94)]):
        write_run(tmp_path, "sgdp", seed, [0.5, 0.6, projected], norm=0.5)
        write_run(tmp_path, "sgd", seed, [0.5, 0.7, plain])
    return tmp_path


def report(*folders):
    return gather(find(folders))


def own_text(html):
    """The page without the plotting library, which no test is about."""
    assert get_plotlyjs() in html
    return html.replace(get_plotlyjs(), "")


def figures(html):
    found = re.findall(r'class="figure" data-plot="plot-(\w+)">(.*?)</script>', html, re.DOTALL)
    return {key: json.loads(text) for key, text in found}


def test_accuracy_is_that_of_the_last_epoch_over_seeds(out):
    sgd, sgdp = tables.rows(report(out))
    assert (sgd.label, sgd.seeds, sgdp.label, sgdp.seeds) == ("sgd", 3, "sgdp", 3)
    assert (sgd.score.mean, sgd.score.deviation) == pytest.approx((92.0, 2.0))
    assert tables.cells(sgd)[1] == "92.00 ± 2.00"


def test_difference_is_taken_seed_by_seed(out):
    sgd, sgdp = tables.rows(report(out))
    assert sgd.difference is None
    assert sgdp.difference.spread.mean == pytest.approx((1 + 3 + 2) / 3)
    assert sgdp.difference.spread.deviation == pytest.approx(1.0)
    assert 1 <= sgdp.difference.low < 2 < sgdp.difference.high <= 3
    assert tables.cells(sgdp)[2] == "+2.00 ± 1.00\n[+1.00, +3.00]"


def test_seed_that_only_one_of_a_pair_has_does_not_enter_the_difference(out):
    write_run(out, "sgdp", 7, [0.0, 0.0, 0.0])
    _, sgdp = tables.rows(report(out))
    assert sgdp.seeds == 4
    assert sgdp.difference.spread.mean == pytest.approx(2.0)


def test_single_seed_has_neither_deviation_nor_interval(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5])
    write_run(tmp_path, "sgdp", 0, [0.75])
    cells = [tables.cells(row) for row in tables.rows(report(tmp_path))]
    assert [row[1:3] for row in cells] == [("50.00", ""), ("75.00", "+25.00")]


def test_projected_optimizer_without_its_baseline_has_no_difference(tmp_path):
    write_run(tmp_path, "sgdp", 0, [0.75])
    (row,) = tables.rows(report(tmp_path))
    assert row.difference is None


def test_first_and_last_are_the_first_and_the_final_epoch(out):
    sgd, _ = tables.rows(report(out))
    assert sgd.norm == pytest.approx((1.0, 3.0))
    assert sgd.step == pytest.approx((0.1, 0.1 / 3))
    assert sgd.ms_per_step == 4.0
    assert tables.cells(sgd)[3:] == ("1.00 → 3.00", "1.0e-1 → 3.3e-2", "4.0")


def test_rows_stand_in_the_order_of_the_recipe(tmp_path):
    compared = {"z": None, "a": "z", "m": None}
    for optimizer in "amz":
        write_run(tmp_path, optimizer, 0, [0.5], compared=compared)
    assert [row.label for row in tables.rows(report(tmp_path))] == ["z", "a", "m"]


def test_difference_that_rounds_to_nothing_has_no_minus():
    difference = tables.Difference(tables.Spread(-0.001, 0.1), -0.004, 0.004)
    cells = tables.cells(tables.Row("sgdp", 5, tables.Spread(99.0, 0.1), difference, (1.0, 1.0), (1.0, 1.0), 1.0))
    assert cells[2] == "+0.00 ± 0.10\n[+0.00, +0.00]"


def test_caption_counts_the_seeds(out):
    assert tables.caption(tables.rows(report(out))).startswith("Seeds: 3 each. ")
    write_run(out, "sgdp", 7, [0.0, 0.0, 0.0])
    assert tables.caption(tables.rows(report(out))).startswith("Seeds: sgd 3, sgdp 4. ")


def test_interval_holds_the_mean_and_is_the_same_every_time():
    values = [0.1, 0.9, -0.3, 0.4, 0.2]
    low, high = tables.bootstrap_interval(values)
    assert min(values) <= low < sum(values) / 5 < high <= max(values)
    assert tables.bootstrap_interval(values) == (low, high)


def test_unfinished_runs_are_left_out_and_counted(out):
    write_run(out, "sgd", 8, [0.1], epochs=3)
    comparison = report(out)
    assert comparison.unfinished == 1
    assert tables.rows(comparison)[0].seeds == 3
    assert "1 unfinished run left out" in page.render(comparison)


def test_folder_without_a_finished_run_is_refused(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.1], epochs=3)
    with pytest.raises(ValueError, match="no finished run among 1; `tangential train`"):
        report(tmp_path)


def test_runs_of_several_folders_are_named_by_their_folders(out, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_run(other, "sgd", 0, [0.5])
    write_run(other, "sgdp", 0, [0.6])
    rows = tables.rows(report(out, other))
    labels = [f"{folder.name}/{name}" for folder in sorted([out, other]) for name in ("sgd", "sgdp")]
    assert sorted(row.label for row in rows) == sorted(labels)
    assert [row.difference is None for row in rows] == [True, False, True, False]


def test_folders_of_the_same_name_keep_their_paths(tmp_path):
    for parent in "ab":
        (tmp_path / parent / "runs").mkdir(parents=True)
        write_run(tmp_path / parent / "runs", "sgd", 0, [0.5])
    labels = {row.label for row in tables.rows(report(tmp_path / "a" / "runs", tmp_path / "b" / "runs"))}
    assert labels == {f"{tmp_path}/{parent}/runs/sgd" for parent in "ab"}


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(out):
    write_run(out, "sgd", 9, [0.5, 0.5, 0.5], batch_size=7)
    with pytest.raises(ValueError, match="not the same settings as the other sgd runs"):
        report(out)


def test_seed_is_not_counted_twice(out):
    write_run(out, "sgd", 0, [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="not the same settings as the other sgd runs"):
        report(out)


@pytest.mark.parametrize("name", ["optimizer", "seed", "epochs", "compared"])
def test_settings_without_what_a_report_needs_are_named(tmp_path, name):
    run = write_run(tmp_path, "sgd", 0, [0.5])
    settings = {key: value for key, value in run.settings().items() if key != name}
    (run.path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=rf"settings\.json is broken \(it has no {name}\)"):
        report(tmp_path)


def test_metrics_without_what_a_report_needs_are_named(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5])
    (run.path / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 1.0}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken \(an epoch has no test_accuracy\)"):
        report(tmp_path)


def test_page_draws_the_numbers_of_the_run_folders(out):
    drawn = figures(page.render(report(out)))
    band, curve = drawn["test_accuracy"]["data"][:2]
    assert curve["name"] == "sgd"
    assert curve["x"] == [1, 2, 3]
    assert curve["y"] == pytest.approx([50.0, 70.0, 92.0])
    assert curve["customdata"][2] == pytest.approx([90.0, 94.0])
    assert band["y"] == pytest.approx([50, 70, 94, 90, 70, 50])
    assert list(drawn) == ["test_accuracy", "weight_norm", "effective_step", "train_loss"]


def test_page_shows_table_settings_environment_and_command(out):
    text = own_text(page.render(report(out)))
    for shown in ("92.00 ± 2.00", "lr=0.1", "tangential train digits", "&#34;torch&#34;: &#34;2.14&#34;"):
        assert shown in text


def test_page_asks_the_network_for_nothing(out):
    text = own_text(page.render(report(out)))
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|\bsrc=|@import|url\(", text)
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{$"


def test_hostile_names_and_settings_are_shown_as_text(tmp_path):
    compared = {HOSTILE: None, "sgdp": HOSTILE}
    for seed in (0, 1):
        for optimizer in compared:
            write_run(tmp_path, optimizer, seed, [0.5, 0.6], compared=compared, recipe=HOSTILE, **{HOSTILE: HOSTILE})
    comparison = report(tmp_path)
    text = own_text(page.render(comparison))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("</script>") == 7, "five scripts with data, two with code"
    assert HOSTILE in unescape(text)
    # plotly reads tags in names, so there they are escaped once more
    names = {trace.get("name") for trace in figures(text)["weight_norm"]["data"]}
    assert not any("<" in name for name in names if name)
    charts.save_pictures(comparison, tmp_path)


def test_long_name_leaves_room_for_the_plot_and_keeps_its_end(tmp_path):
    name = "a-very-long-way-to-it/" * 20 + "sgd"
    write_run(tmp_path, name, 0, [0.5, 0.6], compared={name: None})
    (line,) = charts.lines(report(tmp_path), charts.NORM)
    assert len(line.label) == 40
    assert line.label.endswith("to-it/sgd")
    charts.save_pictures(report(tmp_path), tmp_path)


def test_pair_shares_a_hue_and_only_the_baseline_is_dashed(tmp_path):
    compared = {"sgd": None, "sgdp": "sgd", "adamw": None, "adamp": "adamw"}
    for optimizer in compared:
        write_run(tmp_path, optimizer, 0, [0.5, 0.6], compared=compared)
    lines = charts.lines(report(tmp_path), charts.curves(report(tmp_path))[0])
    assert [(line.hue, line.projected) for line in lines] == [(0, False), (0, True), (1, False), (1, True)]
    traces = charts.interactive(report(tmp_path), charts.curves(report(tmp_path))[0])["data"][1::2]
    assert [trace["line"]["dash"] for trace in traces] == ["dash", "solid", "dash", "solid"]


def contrast(one, other):
    """The ratio of WCAG 2, from 1 to 21."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "background"), [(charts.LIGHT, "#ffffff"), (charts.DARK, "#14171b")])
def test_lines_stand_out_from_the_page_and_from_their_pair(colours, background):
    for baseline, projected in colours:
        assert contrast(baseline, background) > 2.5
        assert contrast(projected, background) > 4.5
        assert contrast(projected, baseline) > 1.5


def test_plots_are_pictures_of_a_readable_size(out):
    paths = page.save(report(out), out)
    assert [path.name for path in paths] == [
        "report.html",
        "accuracy.png",
        "weight_norm.png",
        "effective_step.png",
        "overview.png",
    ]
    for path, width in zip(paths[1:], (960, 960, 960, 1920), strict=True):
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20], "big") == width


def test_report_needs_no_torch():
    folder = Path(tangential.report.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.split(".")[0] == "torch" for module in modules), path
