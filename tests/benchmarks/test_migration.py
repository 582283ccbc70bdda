"""The published tables of migration are those of their script, row by row."""

import importlib.util

import pytest

from support.paths import ROOT

foreign = pytest.importorskip("support.foreign_optimizers")
spec = importlib.util.spec_from_file_location("migration", ROOT / "benchmarks" / "migration.py")
migration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migration)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "table", [migration.arrivals, migration.refusals, migration.departures], ids=lambda f: f.__name__
)
def test_page_has_the_rows_that_the_script_finds(table, caplog):
    caplog.set_level("INFO", "tangential")
    logger = migration.logging.getLogger("tangential")
    logger.addHandler(migration.LOST)
    try:
        rows = table()
    finally:
        logger.removeHandler(migration.LOST)
    page = migration.PAGE.read_text().splitlines()
    assert len(rows) == len(set(rows)) > 10
    for row in rows:
        small = "below 1e-12" in row or "allow=" in row
        shown = row in page if small else any(line.split(" | ")[:2] == row.split(" | ")[:2] for line in page)
        assert shown, row
