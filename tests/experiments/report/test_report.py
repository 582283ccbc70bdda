import ast
import json
import re
from html import unescape
from pathlib import Path

import pytest

import tangential.experiments.report
from support.run_folders import data, write_run
from tangential.experiments.report import curves, findings, page, png, styles, tables
from tangential.experiments.report.comparison import gather
from tangential.experiments.report.text import shortened
from tangential.experiments.runs.folder import find


def write_settings(run, **changed):
    (run.path / "settings.json").write_text(json.dumps(run.settings() | changed))


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
    library = (Path(page.__file__).parent / "static" / "plotly-basic.min.js").read_text()
    assert library in html
    return html.replace(library, "")


def charts(html):
    return {chart["key"]: chart for chart in data(html)["charts"]}


def texts(comparison):
    """The table as lists of text, below its headings."""
    table = tables.table(comparison)
    return [list(table.headings), *([str(cell) for cell in row] for row in table.rows)]


def test_accuracy_is_that_of_the_last_epoch_over_seeds(out):
    sgd, sgdp = tables.rows(report(out))
    assert (sgd.label, sgd.seeds, sgdp.label, sgdp.seeds) == ("sgd", 3, "sgdp", 3)
    accuracy = sgd.scores["test_accuracy"]
    assert (accuracy.mean, accuracy.deviation) == pytest.approx((92.0, 2.0))
    assert texts(report(out))[1][1] == "92.00 ± 2.00"


def test_difference_is_taken_seed_by_seed(out):
    sgd, sgdp = tables.rows(report(out))
    assert sgd.difference is None
    assert sgdp.difference.spread.mean == pytest.approx((1 + 3 + 2) / 3)
    assert sgdp.difference.spread.deviation == pytest.approx(1.0)
    assert sgdp.difference.low < 0 < 2 < sgdp.difference.high
    assert texts(report(out))[2][2:4] == ["+2.00 ± 1.00\n[-0.48, +4.48], n = 3", "too few seeds to tell"]


def test_verdict_has_the_p_that_holm_gives_for_all_pairs_of_the_page(tmp_path):
    compared = {"sgd": None, "sgdp": "sgd", "adamw": None, "adamp": "adamw"}
    for seed in range(7):
        for optimizer, ahead in (("sgd", 0.0), ("sgdp", 0.01), ("adamw", 0.0), ("adamp", -0.003)):
            write_run(tmp_path, optimizer, seed, [0.9 + 0.001 * seed * (ahead != 0) + ahead], compared=compared)
    words = [row[3] for row in texts(report(tmp_path))]
    assert words == ["verdict", "", "better\np = 0.031", "", "undecided\np = 1"]
    assert page.render(report(tmp_path)).count('class="dot"') == 2 * 7


def test_seed_that_only_one_of_a_pair_has_does_not_enter_the_difference(out):
    write_run(out, "sgdp", 7, [0.0, 0.0, 0.0])
    _, sgdp = tables.rows(report(out))
    assert sgdp.seeds == 4
    assert sgdp.difference.spread.mean == pytest.approx(2.0)


def test_single_seed_has_neither_deviation_nor_interval(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5])
    write_run(tmp_path, "sgdp", 0, [0.75])
    assert [row[1:3] for row in texts(report(tmp_path))[1:]] == [["50.00", ""], ["75.00", "+25.00"]]
    assert texts(report(tmp_path))[2][3] == "too few seeds to tell"


def test_projected_optimizer_without_its_baseline_has_no_difference(tmp_path):
    write_run(tmp_path, "sgdp", 0, [0.75])
    (row,) = tables.rows(report(tmp_path))
    assert row.difference is None


def test_first_and_last_are_the_first_and_the_final_epoch(out):
    sgd, _ = tables.rows(report(out))
    assert sgd.norm == pytest.approx((1.0, 3.0))
    assert sgd.step == pytest.approx((0.1, 0.1 / 3))
    assert sgd.ms_per_step == 4.0
    assert texts(report(out))[1][4:] == ["1.00 → 3.00", "1.0e-1 → 3.3e-2", "4.0"]


def test_rows_stand_in_the_order_of_the_recipe(tmp_path):
    compared = {"z": None, "a": "z", "m": None}
    for optimizer in "amz":
        write_run(tmp_path, optimizer, 0, [0.5], compared=compared)
    assert [row.label for row in tables.rows(report(tmp_path))] == ["z", "a", "m"]


def test_difference_that_rounds_to_nothing_has_no_minus(tmp_path):
    for optimizer, accuracy in (("sgd", 0.5), ("sgdp", 0.49999)):
        write_run(tmp_path, optimizer, 0, [accuracy])
    assert texts(report(tmp_path))[2][2] == "+0.00"


def test_caption_counts_the_seeds(out):
    assert tables.table(report(out)).caption.startswith("Seeds: 3 each. ")
    write_run(out, "sgdp", 7, [0.0, 0.0, 0.0])
    assert tables.table(report(out)).caption.startswith("Seeds: sgd 3, sgdp 4. ")


def test_scores_of_any_task_have_columns_and_losses_none(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [])
    run.append({"epoch": 1, "train_loss": 2.0, "test_loss": 1.5, "test_perplexity": 123.456, "test_recall_at_1": 0.5})
    write_settings(run, epochs=1)
    assert texts(report(tmp_path)) == [["optimizer", "perplexity", "recall at 1 (%)"], ["sgd", "123.5", "50.00"]]
    assert "Lower is better: Test perplexity." in tables.table(report(tmp_path)).caption
    assert [path.name for path in png.save_plots(report(tmp_path), tmp_path)] == ["perplexity.png"]


def test_loss_stands_in_the_table_where_it_is_the_only_score(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [])
    run.append({"epoch": 1, "train_loss": 2.0, "test_loss": 1.5})
    write_settings(run, epochs=1)
    assert texts(report(tmp_path)) == [["optimizer", "loss (nats)"], ["sgd", "1.500"]]


def test_paper_stands_beside_our_number_with_its_marks(tmp_path):
    paper = {
        "sgd": {"value": 70.47, "verified": True, "source": "v1 table 1", "other_data": False},
        "sgdp": {"value": 70.7, "verified": False, "source": "v3", "other_data": True},
    }
    for optimizer in paper:
        write_run(tmp_path, optimizer, 0, [0.5], paper=paper)
    shown = tables.table(report(tmp_path))
    assert shown.headings[2] == "paper"
    assert [str(row[2]) for row in shown.rows] == ["70.47", "70.7 (unverified) (other data)"]
    html = page.render(report(tmp_path))
    assert "The paper's numbers: sgd: v1 table 1; sgdp: v3." in own_text(html)
    assert '70.7 <small class="pill">unverified</small> <small class="pill">other data</small>' in html


PERPLEXITY = {"name": "ppl", "label": "perplexity (per word)", "scale": 2.0, "higher_is_better": False}


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ((6.638, 6.2921), ["6.638", "6.292", "-0.346"]),
        ((1234.5, 1200.0), ["1234", "1200", "-34"]),
        ((0.001, 0.0012345), ["0.001000", "0.001234", "+0.000234"]),
        ((0.0, 0.0), ["0.000", "0.000", "+0.000"]),
    ],
)
def test_difference_has_as_many_decimals_as_the_score(tmp_path, scores, shown):
    for optimizer, ppl in zip(("sgd", "sgdp"), scores, strict=True):
        run = write_run(tmp_path, optimizer, 0, [], epochs=1, headline=PERPLEXITY | {"scale": 1.0})
        run.append({"epoch": 1, "train_loss": 2.0, "test_ppl": ppl})
    _, (_, theirs, *_), (_, ours, difference, *_) = texts(report(tmp_path))
    assert [theirs, ours, difference] == shown


def test_task_says_which_score_comes_first_and_how_it_is_shown(tmp_path):
    paper = {"sgdp": {"value": 23.5, "verified": True, "source": "v1 table 9", "other_data": False}}
    for optimizer, ppl in (("sgd", 20.0), ("sgdp", 15.0)):
        run = write_run(tmp_path, optimizer, 0, [], epochs=1, headline=PERPLEXITY, paper=paper)
        run.append({"epoch": 1, "train_loss": 2.0, "test_accuracy": 0.5, "test_ppl": ppl})
    (headings, sgd, sgdp), shown = texts(report(tmp_path)), tables.table(report(tmp_path))
    assert headings == ["optimizer", "perplexity (per word)", "paper", "difference", "verdict", "accuracy (%)"]
    assert (sgd[1:], sgdp[1:]) == (
        ["40.00", "", "", "", "50.00"],
        ["30.00", "23.5", "-10.00", "too few seeds to tell", "50.00"],
    )
    assert "Lower is better: Test perplexity. " in shown.caption
    assert "below zero is better" in shown.caption and "percentage points" not in shown.caption
    first = data(page.render(report(tmp_path)))["charts"][0]
    assert (first["key"], first["title"], first["axis"]) == (
        "test_ppl",
        "Test perplexity",
        "test perplexity (per word)",
    )
    assert [line["mean"] for line in first["lines"]] == [[40.0], [30.0]]
    assert "ppl.png" in [path.name for path in png.save_plots(report(tmp_path), tmp_path)]


@pytest.mark.parametrize("headline", [3, {}, PERPLEXITY | {"scale": "x"}, PERPLEXITY | {"name": None}])
def test_headline_that_is_none_is_named(tmp_path, headline):
    write_run(tmp_path, "sgd", 0, [0.5], headline=headline)
    with pytest.raises(ValueError, match=r"settings.json is broken \(headline="):
        report(tmp_path)


def test_epoch_without_the_score_it_is_about_is_named(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5], headline=PERPLEXITY)
    with pytest.raises(ValueError, match="an epoch has no test_ppl"):
        report(tmp_path)


@pytest.mark.parametrize("paper", [None, 3, {"sgd": 4}, {"sgd": {"value": "x"}}, {"sgdp": {"value": 1.0}}])
def test_settings_without_a_number_of_the_paper_have_no_such_column(tmp_path, paper):
    write_run(tmp_path, "sgd", 0, [0.5], paper=paper)
    assert "paper" not in tables.table(report(tmp_path)).headings


def test_unfinished_runs_are_left_out_and_counted(out):
    write_run(out, "sgd", 8, [0.1], epochs=3)
    comparison = report(out)
    assert comparison.unfinished == 1
    assert tables.rows(comparison)[0].seeds == 3
    assert "1 unfinished run left out" in page.render(comparison)


def test_unfinished_runs_are_drawn_and_listed_where_they_are_followed(out):
    write_run(out, "sgd", 8, [0.1], epochs=3)
    comparison = gather(find([out]), follow=True)
    assert tables.rows(comparison)[0].seeds == 3
    html = page.render(comparison, live=True)
    assert '<span>sgd, seed 8</span> <span class="soft">epoch 1 of 3</span>' in html
    assert charts(html)["test_accuracy"]["lines"][0]["low"][0] == pytest.approx(10.0)


def test_followed_folder_needs_no_finished_run(tmp_path):
    write_run(tmp_path, "sgd", 0, [], epochs=3)
    html = page.render(gather(find([tmp_path]), follow=True), live=True)
    assert "No run is finished yet." in html
    assert charts(html) == {}


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
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken \(an epoch has no score"):
        report(tmp_path)


def test_metrics_without_a_loss_are_named(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5])
    (run.path / "metrics.jsonl").write_text('{"epoch": 1, "test_accuracy": 1.0}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is broken \(an epoch has no train_loss\)"):
        report(tmp_path)


def test_page_draws_the_numbers_of_the_run_folders(out):
    drawn = charts(page.render(report(out)))
    line = drawn["test_accuracy"]["lines"][0]
    assert line["group"] == "sgd"
    assert line["x"] == [1, 2, 3]
    assert line["mean"] == pytest.approx([50.0, 70.0, 92.0])
    assert line["low"] == pytest.approx([50, 70, 90])
    assert line["high"] == pytest.approx([50, 70, 94])
    assert list(drawn) == ["test_accuracy", "train_loss", "weight_norm", "effective_step"]


def test_quantity_that_some_epochs_lack_is_drawn_over_the_others(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [0.5])
    run.append({"epoch": 2, "train_loss": 0.5, "test_accuracy": 0.6, "own": 7.0, "words": "x", "none": None})
    write_settings(run, epochs=2)
    drawn = charts(page.render(report(tmp_path)))
    assert drawn["weight_norm"]["lines"][0]["x"] == [1]
    assert drawn["own"]["lines"][0]["x"] == [2]
    assert drawn["own"]["title"] == "own"
    assert "words" not in drawn
    assert "none" not in drawn


def test_logarithmic_axis_is_only_for_what_is_positive(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [])
    run.append({"epoch": 1, "train_loss": 0.0, "test_accuracy": 0.5})
    write_settings(run, epochs=1)
    assert charts(page.render(report(tmp_path)))["train_loss"]["log"] is False


def test_many_quantities_are_bounded(tmp_path):
    run = write_run(tmp_path, "sgd", 0, [])
    run.append({"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5} | {f"own{i}": 1.0 for i in range(200)})
    write_settings(run, epochs=1)
    assert len(data(page.render(report(tmp_path)))["charts"]) == curves.MOST


def test_page_shows_table_settings_environment_and_command(out):
    text = own_text(page.render(report(out)))
    for shown in ("92.00 ± 2.00", "lr=0.1", "tangential train digits", "<dt>torch</dt><dd>2.14</dd>"):
        assert shown in text


def test_page_asks_the_network_for_nothing(out):
    text = own_text(page.render(report(out)))
    assert "default-src 'none'" in text
    assert not re.search(r"(?<!<a href=\")https?://|\bsrc=|@import|url\(", text)
    links = (
        "#",
        "https://arxiv.org/abs/2006.08217",
        "https://pypi.org/project/tangential/",
    )  # that a reader may follow
    assert all(link == "data:," or link.startswith(links) for link in re.findall(r'href="([^"]*)"', text))


HOSTILE = "<!--</script><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{$\u2028"


def test_findings_are_a_sentence_per_difference_and_many_are_counted(tmp_path):
    for number in range(6):
        compared = {f"{name}-{number}": base and f"{base}-{number}" for name, base in (("sgd", None), ("sgdp", "sgd"))}
        for optimizer in compared:
            for seed in range(8):
                better = 0.1 if optimizer == "sgdp-0" else -0.1 if optimizer == "sgdp-1" else 0.001 * (-1) ** seed
                gain = better + 1e-4 * seed if optimizer.startswith("sgdp") else 0
                write_run(tmp_path / str(number), optimizer, seed, [0.5 + gain], compared=compared)
    few = findings.sentences(report(tmp_path / "0"))
    assert re.fullmatch(
        r"sgdp-0 is better than sgd-0: \+10\.0[34] percentage points of test accuracy "
        r"\(95 % interval \+10\.01 to \+10\.06, p = 0\.0078, 8 seeds\)\.",
        few[0],
    )
    first, *told = findings.sentences(report(*(tmp_path / str(number) for number in range(6))))
    assert first == "Of 6 differences: 4 undecided, 1 better, 1 worse."
    assert ["is better" in told[0], "is worse" in told[1], len(told)] == [True, True, 2]


def test_settings_that_differ_are_columns(tmp_path):
    made = {"class": "torch.optim.SGD", "arguments": {"lr": 0.1}, "defaults": {"momentum": 0}}
    for optimizer, own in {
        "sgd": made,
        "sgdp": {**made, "arguments": {"lr": 0.1, "momentum": 0.9}, "defaults": {}},
    }.items():
        run = write_run(tmp_path, optimizer, 0, [0.5])
        write_settings(run, made_by=own)
    assert findings.differing_settings(report(tmp_path)) == (["momentum"], [["0"], ["0.9"]])
    text = page.render(report(tmp_path))
    assert '<th scope="col">momentum</th>' in text


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize(("lines", "ground"), [(styles.LIGHT, "#ffffff"), (styles.DARK, "#14171b")])
def test_lines_have_a_contrast_of_three(lines, ground):
    for colour in (colour for pair in lines for colour in pair):
        light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_page_ends_with_date_and_version(out):
    page.save(report(out), out)
    text = (out / "report.html").read_text()
    assert re.search(rf"Made on \d{{4}}-\d\d-\d\d by tangential {re.escape(tangential.__version__)}", text)
    assert len(text) < 1_400_000
    assert "Made on" not in page.render(report(out), live=True)


def test_hostile_names_and_settings_are_shown_as_text(tmp_path):
    compared = {HOSTILE: None, "sgdp": HOSTILE}
    for seed in (0, 1):
        for optimizer in compared:
            run = write_run(tmp_path, optimizer, seed, [0.5], compared=compared, recipe=HOSTILE, **{HOSTILE: HOSTILE})
            run.append({"epoch": 2, "train_loss": 1.0, "test_accuracy": 0.5, HOSTILE: 1.0})
            write_settings(run, epochs=2)
    comparison = report(tmp_path)
    text = own_text(page.render(comparison))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("</script>") == 9, "one script with data, eight with code"
    assert "<!--" not in text
    assert "\u2028" not in text.split('id="data"')[1]
    assert HOSTILE in unescape(text)
    assert {group["label"] for group in data(text)["groups"]} == set(compared)
    assert HOSTILE in charts(text)
    png.save_plots(comparison, tmp_path)


def test_page_of_news_brings_no_code(out):
    html = page.render(report(out), live=True, scripts=False)
    assert html.count("<script") == 1
    assert data(html) == data(page.render(report(out)))


def test_long_name_leaves_room_for_the_plot_and_keeps_its_end(tmp_path):
    name = "a-very-long-way-to-it/" * 20 + "sgd"
    write_run(tmp_path, name, 0, [0.5, 0.6], compared={name: None})
    assert len(shortened(name, 40)) == 40
    assert shortened(name, 40).endswith("to-it/sgd")
    png.save_plots(report(tmp_path), tmp_path)


def test_legend_of_the_plots_covers_none_of_them(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(png, "replace_file", lambda path, write: drawn.append(write.__defaults__[0]))
    names = {f"{'long-' * 6}{number}": None for number in range(9)}
    for name in names:
        write_run(tmp_path, name, 0, [0.5, 0.6], compared=names)
    png.save_plots(report(tmp_path), tmp_path)
    for figure in drawn:
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert [text.get_text() for text in legend.get_texts()] == list(names)
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert len(drawn) == 4


def test_name_of_a_score_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "runs").mkdir()
    run = write_run(tmp_path / "runs", "sgd", 0, [])
    run.append({"epoch": 1, "train_loss": 1.0, "test_../../x": 1.0})
    write_settings(run, epochs=1)
    (path,) = png.save_plots(report(tmp_path / "runs"), tmp_path / "runs")
    assert path.name == "------x.png"


def test_pair_shares_a_hue_and_only_the_baseline_is_dashed(tmp_path):
    compared = {"sgd": None, "sgdp": "sgd", "adamw": None, "adamp": "adamw"}
    for optimizer in compared:
        write_run(tmp_path, optimizer, 0, [0.5, 0.6], compared=compared)
    groups = data(page.render(report(tmp_path)))["groups"]
    assert [(group["hue"], group["role"]) for group in groups] == [
        (0, "baseline"),
        (0, "projected"),
        (1, "baseline"),
        (1, "projected"),
    ]


def test_optimizer_that_is_compared_with_none_is_no_baseline(tmp_path):
    write_run(tmp_path, "sgd", 0, [0.5])
    assert data(page.render(report(tmp_path)))["groups"][0]["role"] == "single"


def contrast(one, other):
    """The ratio of WCAG 2, from 1 to 21."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "background"), [(styles.LIGHT, "#ffffff"), (styles.DARK, "#14171b")])
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
    folder = Path(tangential.experiments.report.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.split(".")[0] == "torch" for module in modules), path
