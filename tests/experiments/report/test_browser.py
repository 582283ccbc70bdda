"""The report of real digits runs in a real browser: what a reader sees and does, at the width of a desk and of a phone.

The browser is the system's; `make browser` installs one where it can.
"""

import json
import math
import re
import shutil
from statistics import mean

import pytest

from support.run_folders import write_run
from support.watched import train_digits
from tangential.experiments.report import page as report_page
from tangential.experiments.report.comparison import gather
from tangential.experiments.runs.folder import RunFolder, find

api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
    pytest.mark.slow,
]

WIDTHS = {"desktop": 1280, "phone": 390}
EPOCHS, SEEDS = 3, 2


@pytest.fixture(scope="module")
def chrome():
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = train_digits(tmp_path_factory.mktemp("digits"), epochs=EPOCHS, seeds=SEEDS)
    report_page.save(gather(find([out])), out)
    return out


class Visit:
    """A page that is open, and what it has complained of and asked for."""

    def __init__(self, chrome, url, width=1280, **settings):
        self.tab = chrome.new_page(viewport={"width": width, "height": 900}, **settings)
        self.tab.set_default_timeout(60_000)
        self.allowed, self.errors, self.asked = {url.partition("#")[0], f"{url}live"}, [], []
        self.tab.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(url)

    def check(self):
        """Hold that there was no error, and that no request left the page."""
        assert self.errors == []
        assert {address for address in self.asked if not address.startswith(("data:", "blob:"))} <= self.allowed


@pytest.fixture
def visit(chrome):
    """Open an address; what was open is checked and closed when the test ends."""
    visits = []

    def open_page(url, **settings):
        visits.append(Visit(chrome, url, **settings))
        return visits[-1].tab

    yield open_page
    for each in visits:
        each.tab.close()
        each.check()


@pytest.fixture(scope="module", params=WIDTHS, ids=str)
def opened(request, chrome, runs):
    """The report, opened once for each width: the tests leave it as they found it."""
    visited = Visit(chrome, (runs / "report.html").as_uri(), WIDTHS[request.param])
    yield visited
    visited.tab.close()


@pytest.fixture
def tab(opened):
    yield opened.tab
    opened.check()


def ends(tab, key, where="#charts"):
    """Group -> the number that stands under a chart."""
    items = tab.locator(f'{where} [data-key="{key}"] .last li')
    return {item.get_attribute("data-group"): float(item.locator("b").inner_text()) for item in items.all()}


def last(runs, optimizer, key):
    """A metric of the last epoch, mean over seeds, from the run folders."""
    return mean(RunFolder(runs / f"{optimizer}-seed{seed}").metrics()[-1][key] for seed in range(SEEDS))


def logged(runs, optimizer, seed):
    lines = (runs / f"{optimizer}-seed{seed}" / "telemetry.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def steps(runs, optimizer, name, epoch, figure, seeds=range(SEEDS)):
    """What was logged of one weight in one epoch, a list per seed."""
    return [[r["weights"][name][figure] for r in logged(runs, optimizer, s) if r["epoch"] == epoch] for s in seeds]


def drawn(tab, place):
    """Names of the lines that plotly has drawn somewhere."""
    tab.locator(place).scroll_into_view_if_needed()  # plots are made when they come near
    tab.locator(f"{place} .js-plotly-plot").wait_for()
    return tab.eval_on_selector(f"{place} .js-plotly-plot", "plot => plot.data.map(t => t.name).filter(n => n)")


def test_numbers_on_the_page_are_those_of_the_metrics(tab, runs):
    for key, scale in {"test_accuracy": 100, "train_loss": 1, "weight_norm": 1, "effective_step": 1}.items():
        expected = {name: scale * last(runs, name, key) for name in ("sgd", "sgdp", "adamw", "adamp")}
        assert ends(tab, key) == pytest.approx(expected, rel=6e-3)
    text = tab.locator(".results tbody tr", has_text="adamp").inner_text()
    assert f"{100 * last(runs, 'adamp', 'test_accuracy'):.2f} ±" in text


def test_curves_are_those_of_the_metrics(tab, runs):
    place = '#charts [data-key="weight_norm"]'
    assert drawn(tab, place) == ["sgd", "sgdp", "adamw", "adamp"]
    plotted = tab.eval_on_selector(f"{place} .plot", "plot => plot.data.filter(t => t.name === 'sgdp')[0].y")
    of_seeds = [[r["weight_norm"] for r in RunFolder(runs / f"sgdp-seed{seed}").metrics()] for seed in range(SEEDS)]
    assert plotted == pytest.approx([mean(values) for values in zip(*of_seeds, strict=True)], rel=1e-6)


def test_optimizers_are_switched_off_and_on(tab):
    place = '#charts [data-key="train_loss"]'
    assert "sgdp" in drawn(tab, place)
    chip = tab.get_by_role("button", name="sgdp", exact=True)
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert drawn(tab, place) == ["sgd", "adamw", "adamp"]
    assert set(ends(tab, "train_loss")) == {"sgd", "adamw", "adamp"}
    assert set(ends(tab, "norm", "#layer-charts")) == {"sgd", "adamw", "adamp"}
    chip.press("Enter")
    assert "sgdp" in drawn(tab, place)


def test_axis_is_switched_between_linear_and_logarithmic(tab):
    place = '#charts [data-key="weight_norm"]'
    drawn(tab, place)
    button = tab.locator(f"{place} button.log")
    kinds = []
    for _ in range(2):
        button.click()
        kinds.append(tab.eval_on_selector(f"{place} .plot", "plot => plot.layout.yaxis.type"))
    assert kinds == ["log", "linear"]


def test_click_on_a_layer_shows_its_curves_with_the_numbers_of_the_telemetry(tab, runs):
    name = "1.0.weight"
    tab.locator(f'#rows [title="{name}"] .name').click()
    assert tab.locator("#layer-name").inner_text() == name
    expected = {
        optimizer: mean(values[-1] for values in steps(runs, optimizer, name, EPOCHS, "norm"))
        for optimizer in ("sgd", "sgdp", "adamw", "adamp")
    }
    assert ends(tab, "norm", "#layer-charts") == pytest.approx(expected, rel=6e-3)
    expected = {optimizer: mean(map(mean, steps(runs, optimizer, name, EPOCHS, "angle"))) for optimizer in expected}
    assert ends(tab, "angle", "#layer-charts") == pytest.approx(expected, rel=6e-3)


def test_map_says_what_is_under_the_keys(tab, runs):
    name = "3.0.weight"
    tab.locator("#run").select_option(label="adamp, seed 1")
    tab.locator("#figures label", has_text="Radial fraction").click()
    rows = tab.locator("#rows")
    rows.focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowRight"):
        rows.press(key)
    assert rows.get_attribute("aria-activedescendant") == tab.locator(
        "[role=option][aria-selected=true]"
    ).get_attribute("id")
    ((radial,), (tangential,)) = (
        steps(runs, "adamp", name, 2, figure, seeds=[1]) for figure in ("radial_update", "tangential_update")
    )
    expected = mean(abs(r) / math.hypot(r, t) for r, t in zip(radial, tangential, strict=True))
    said = re.fullmatch(rf"{name}, epoch 2: radial fraction (\S+)", tab.locator("#readout").inner_text())
    assert float(said[1]) == pytest.approx(expected, rel=6e-3)


def test_map_has_a_cell_per_layer_and_epoch_in_colours(tab):
    tab.locator("#run").select_option(label="sgd, mean of 2 seeds")
    tab.locator("#figures label", has_text="Norm").click()
    colours = tab.evaluate(
        "[...document.querySelectorAll('#rows canvas')].map(c =>"
        " Array.from({ length: c.width }, (_, x) => c.getContext('2d').getImageData(x, 0, 1, 1).data.join()))"
    )
    assert [len(row) for row in colours] == [EPOCHS] * 4
    assert len({cell for row in colours for cell in row}) > 6


def test_page_is_no_wider_than_the_screen(tab):
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_page_has_invariances_settings_and_command(tab):
    assert "BatchNorm2d.batch_norm" in tab.locator("#invariances").inner_text()
    assert "tangential.optimizers.SGDP" not in tab.locator("#settings").inner_text()
    tab.locator("#settings summary", has_text="sgdp").click()
    assert "tangential.optimizers.SGDP" in tab.locator("#settings details[open]").inner_text()
    tab.get_by_role("button", name="Copy").click()
    tab.locator("button.copy", has_text=re.compile("Copied|Marked")).wait_for()
    assert tab.locator(".command pre").inner_text() == "tangential train digits"


def test_dark_page_has_light_lines_on_a_dark_ground(visit, runs):
    dark = visit((runs / "report.html").as_uri(), color_scheme="dark")
    place = '#charts [data-key="train_loss"]'
    drawn(dark, place)
    colour = f"() => document.querySelector('{place} .plot').data.find(t => t.name === 'sgdp').line.color"
    assert dark.evaluate(colour) == "#9dd1ff"
    assert dark.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    dark.emulate_media(color_scheme="light")
    api.expect(dark.locator(".chip .swatch").nth(1)).to_have_css("border-top-color", "rgb(0, 76, 140)")
    assert dark.evaluate(colour) == "#004c8c"


def test_table_sorts_and_one_optimizer_is_shown_alone(tab):
    heading = tab.locator(".results .sort", has_text="weight norm")
    if heading.is_visible():  # on a phone each row is a card with its own headings
        heading.click()
        norms = [float(text.split(" ")[0]) for text in tab.locator("td[data-heading='weight norm']").all_inner_texts()]
        assert norms == sorted(norms, reverse=True)
        tab.locator(".results .sort").first.click()
        names = tab.locator(".results tbody th").all_inner_texts()
        assert names == sorted(names)
    tab.get_by_role("button", name="show only adamp", exact=True).click()
    assert set(ends(tab, "train_loss")) == {"adamp"}
    tab.get_by_role("button", name="None", exact=True).click()
    assert ends(tab, "train_loss") == {} and drawn(tab, '#charts [data-key="train_loss"]') == []
    tab.get_by_role("button", name="All", exact=True).click()
    assert len(ends(tab, "train_loss")) == 4


def test_link_shows_another_reader_the_same(visit, runs):
    address = (runs / "report.html").as_uri()
    tab = visit(address)
    tab.get_by_role("button", name="show only adamp", exact=True).click()
    tab.locator('#charts [data-key="weight_norm"] button.log').click()
    tab.locator('#rows [title="3.0.weight"] .name').click()
    drawn(tab, '#charts [data-key="train_loss"]')
    card = '#charts [data-key="train_loss"] .plot'
    tab.evaluate(f"Plotly.relayout(document.querySelector('{card}'), {{'xaxis.range[0]': 1.5, 'xaxis.range[1]': 2.5}})")
    link = tab.url
    assert link.startswith(f"{address}#view?")
    other = visit(link)
    assert set(ends(other, "train_loss")) == {"adamp"}
    assert other.locator('#charts [data-key="weight_norm"] button.log').get_attribute("aria-pressed") == "true"
    assert other.locator("#layer-name").inner_text() == "3.0.weight"
    drawn(other, '#charts [data-key="train_loss"]')
    assert other.eval_on_selector(card, "plot => plot.layout.xaxis.range") == [1.5, 2.5]
    for broken in ("zoom=a+b+c+d+x&hide=nobody&layer=none&log=", "zoom=%&figure=<b>"):
        assert len(ends(visit(f"{address}#view?{broken}"), "train_loss")) == 4


def test_numbers_and_plots_are_saved_as_files(tab, runs, tmp_path):
    def saved(button):
        with tab.expect_download() as waiting:
            button.click()
        waiting.value.save_as(tmp_path / waiting.value.suggested_filename)
        return tmp_path / waiting.value.suggested_filename

    lines = saved(tab.get_by_role("button", name="CSV", exact=True)).read_text().splitlines()
    assert lines[0] == "quantity,group,epoch,mean,minimum,maximum"
    row = next(line.split(",") for line in lines if line.startswith(f"training loss (nats),adamp,{EPOCHS},"))
    assert float(row[3]) == pytest.approx(last(runs, "adamp", "train_loss"), rel=1e-6)
    found = json.loads(saved(tab.get_by_role("button", name="JSON", exact=True)).read_text())
    assert [group["label"] for group in found["groups"]] == ["sgd", "sgdp", "adamw", "adamp"]
    drawn(tab, '#charts [data-key="weight_norm"]')
    names = {kind: saved(tab.get_by_role("button", name=f"download Weight norm as {kind}")) for kind in ("SVG", "PNG")}
    assert names["SVG"].read_text().startswith("<svg") and "adamp" in names["SVG"].read_text()
    assert names["PNG"].read_bytes().startswith(b"\x89PNG") and names["PNG"].name == "weight_norm.png"


def test_a_cell_of_the_csv_is_text_and_axes_leave_out_a_start_that_hides_the_rest(tab):
    assert tab.evaluate("[cell('a,b'), cell('=1+1'), cell('say \"x\"'), cell(-2)]") == [
        '"a,b"',
        "'=1+1",
        '"say ""x"""',
        "-2",
    ]
    line = "{ x: [...Array(20).keys()], low: [9, 5, ...Array(18).fill(1)], high: [9, 5, ...Array(18).fill(2)] }"
    assert tab.evaluate(f"laterRange([{line}], false)") == pytest.approx([0.92, 2.08])
    assert tab.evaluate("laterRange([{ x: [1, 2], low: [9, 1], high: [9, 1] }], false)") is None


def test_forty_optimizers_are_searched_and_fit_a_phone(visit, tmp_path):
    names = [f"{name}-{number}" for number in range(20) for name in ("adamw", "adamp")]
    compared = {name: name.replace("adamp", "adamw") if "adamp" in name else None for name in names}
    for name in names:
        write_run(tmp_path, name, 0, [0.5, 0.6], compared=compared)
    report_page.save(gather(find([tmp_path])), tmp_path)
    tab = visit((tmp_path / "report.html").as_uri(), width=390)
    tab.locator("#group-filter").fill("adamp-1")
    assert tab.locator(".choice:visible").count() == 11
    assert tab.locator(".results tbody tr:visible").count() == 11
    tab.get_by_role("button", name="None", exact=True).click()
    assert len(ends(tab, "train_loss")) == 29
    tab.locator("#group-filter").fill("")
    tab.get_by_role("button", name="None", exact=True).click()
    assert ends(tab, "train_loss") == {} and drawn(tab, '#charts [data-key="train_loss"]') == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--"


def test_script_in_any_name_is_shown_as_text_and_does_not_run(visit, tmp_path):
    compared = {EVIL: None, "sgdp": EVIL}
    for optimizer in compared:
        run = write_run(tmp_path, optimizer, 0, [], epochs=1, compared=compared, recipe=EVIL, **{EVIL: EVIL})
        run.append({"epoch": 1, "train_loss": 1.0, f"test_{EVIL}": 0.5, EVIL: 2.0})
        figures = {"kind": EVIL, "blocks": 2, "norm": 1.0, "effective_step": 0.1, "angle": 0.1}
        run.telemetry.write_text(json.dumps({"step": 1, "epoch": 1, "weights": {EVIL: figures}}) + "\n")
    report_page.save(gather(find([tmp_path])), tmp_path)
    tab = visit((tmp_path / "report.html").as_uri(), width=390)
    for chip in tab.locator(".chip").all():
        chip.click()
        chip.click()
    tab.locator("#rows .name").first.click()
    for heading in tab.locator(".chart h3").all():
        heading.scroll_into_view_if_needed()
    tab.locator("#layer-charts .js-plotly-plot").first.hover()
    assert tab.locator("h1").inner_text() == EVIL
    assert tab.locator("#layer-name").inner_text() == EVIL
    assert EVIL in tab.locator("#layer-about").inner_text()
    assert tab.locator(".chart h3").all_inner_texts().count(EVIL) == 1
    assert tab.locator("img").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_served_page_follows_a_run_and_keeps_what_was_chosen(visit, serve, runs, tmp_path):
    source = RunFolder(runs / "sgdp-seed0")
    run = RunFolder(tmp_path / "sgdp-seed0")
    run.start(source.settings(), source.environment())
    first, second, _ = source.metrics()
    run.append(first)
    tab = visit(serve(tmp_path).url)
    tab.get_by_text("epoch 1 of 3").wait_for()
    tab.locator('#charts [data-key="train_loss"] button.log').click()
    assert ends(tab, "train_loss")["sgdp"] == pytest.approx(first["train_loss"], rel=6e-3)
    run.append(second)
    run.telemetry.write_bytes(source.telemetry.read_bytes())
    tab.get_by_text("epoch 2 of 3").wait_for(timeout=60_000)
    assert ends(tab, "train_loss")["sgdp"] == pytest.approx(second["train_loss"], rel=6e-3)
    assert tab.locator('#charts [data-key="train_loss"] button.log').get_attribute("aria-pressed") == "false"
    tab.locator('#rows [title="6.weight"]').click()
    assert "last change seen at" in tab.locator("#status").inner_text()
