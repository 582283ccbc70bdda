"""Database of a sweep's trials, for one worker or many: Optuna's storage with SQLite made safe, and errors of one line.

Optuna takes a waiting trial in two steps: it reads the trial's state, locking the row, and then writes that the trial
is running. SQLite has no locks of rows, and Python's driver begins a transaction at the first *write*, so that two
workers could read "waiting" before either writes, and both ran the trial. Here every transaction of SQLite begins with
`BEGIN IMMEDIATE`, which takes the one write lock of the database: read and write of a worker are one unit.

A worker that is killed is noticed by its heartbeat, which Optuna keeps in relational databases alone. Its other
storages (Redis, journal files, a gRPC proxy) are refused: what a killed worker had taken would never be finished.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._rdb.models import TrialHeartbeatModel
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

LOCK_SECONDS = 60
"""How long a worker waits for the write lock of an SQLite database."""

WITHOUT_HEARTBEAT = ("redis", "rediss", "grpc", "journal", "file")
"""Schemes of URLs of storages that keep no heartbeats, or that a user of Optuna might write for one."""

ATTEMPTS = 10
"""How often a worker tries to connect while another one creates the tables, a second apart."""


def open_storage(where: str | Path, *, heartbeat: int) -> RDBStorage:
    """Optuna's storage in a database, whose tables are created if there are none.

    Args:
        where: A URL of SQLAlchemy, or the path of an SQLite file. In a path every character stands for itself; in a URL
            `?` begins options.
        heartbeat: Seconds between heartbeats; a worker without one for twice as long counts as dead.

    Raises:
        ValueError: The database cannot be used; the error says why in one line.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "lr?1"
        >>> folder.mkdir()
        >>> storage = open_storage(folder / "sweep.db", heartbeat=60)
        >>> [file.name for file in folder.iterdir()]
        ['sweep.db']
    """
    with database_errors(where):
        for _ in range(ATTEMPTS - 1):
            try:
                return _connect(where, heartbeat)
            except SQLAlchemyError as error:
                if not _is_race(error):
                    raise
                time.sleep(1)
        return _connect(where, heartbeat)


def heard(storage: RDBStorage) -> set[int]:
    """Identifiers of the trials of which there was a heartbeat."""
    with storage.engine.connect() as connection:
        return set(connection.execute(select(TrialHeartbeatModel.trial_id)).scalars())


def check_shared(where: str | Path, *, machines: bool) -> None:
    """Raise ValueError unless several workers can use a database.

    Args:
        where: As for `open_storage`.
        machines: Whether the workers may run on several machines.

    Examples:
        >>> check_shared(Path("sweep.db"), machines=False)
        >>> check_shared("sqlite://", machines=False)
        Traceback (most recent call last):
        ...
        ValueError: sqlite://: a database in memory is seen by one process alone; give --storage a file or PostgreSQL
    """
    url = "sqlite:///file" if isinstance(where, Path) else where
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite"):
        return
    if rest.partition("?")[0] in ("", "/", "/:memory:") or "mode=memory" in rest:
        raise ValueError(
            f"{where}: a database in memory is seen by one process alone; give --storage a file or PostgreSQL"
        )
    if machines:
        raise ValueError(
            f"{where}: SQLite is for the processes of one machine, as its locks do not hold on network file systems;"
            " give --storage postgresql+psycopg://USER@HOST/NAME"
        )


@contextmanager
def database_errors(where: str | Path) -> Iterator[None]:
    """Errors of the database in the block become a ValueError of one line that names the database.

    A missing driver, a URL that cannot be read, a file that is no database, a full disk, a lock that is not released.
    """
    try:
        yield
    except Exception as error:
        cause = _of_the_database(error)
        if cause is None:
            raise
        raise ValueError(f"{where}: {_first_line(cause)}; choose another --storage, or --out") from error


def _connect(where: str | Path, heartbeat: int) -> RDBStorage:
    url = where if isinstance(where, str) else "sqlite://"
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in WITHOUT_HEARTBEAT:
        raise ValueError(
            f"--storage {where}: {scheme} keeps no heartbeats, so that a killed worker's trials would be lost; give"
            " a relational database, as postgresql+psycopg://USER@HOST/NAME, or none for SQLite in --out"
        )
    settings: dict[str, Any] = {}
    if isinstance(where, Path):
        # Opened by its path, so that no character is read as a part of a URL; in the heartbeat's thread as well.
        settings["creator"] = lambda: sqlite3.connect(where, LOCK_SECONDS, check_same_thread=False)
        settings["poolclass"] = QueuePool
    elif url.startswith("sqlite"):
        settings["connect_args"] = {"timeout": LOCK_SECONDS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            storage = RDBStorage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except (ImportError, KeyError, IndexError, ValueError, RuntimeError) as error:
            # no driver; braces in a URL, which Optuna formats; a database of another version of Optuna
            raise ValueError(f"--storage {where}: {_first_line(error)}") from error
    if storage.engine.dialect.name == "sqlite":
        _lock_at_begin(storage.engine)
    return storage


def _lock_at_begin(engine: Any) -> None:
    """Begin every transaction with the write lock; the driver's own begin, which comes later, is switched off."""

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # connections that were opened before


def _of_the_database(error: BaseException) -> BaseException | None:
    """The error of the database behind an error: Optuna wraps it, and may fail itself while it handles it."""
    found = None
    while error is not None and not isinstance(error, ValueError):
        found = error if isinstance(error, SQLAlchemyError | sqlite3.Error) else found
        error = error.__cause__ or error.__context__  # pyright: ignore[reportAssignmentType]
    return found


def _is_race(error: SQLAlchemyError) -> bool:
    """Whether another worker creates the tables, or holds the lock, at this moment."""
    return isinstance(error, IntegrityError) or any(word in str(error) for word in ("already exists", "is locked"))


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
