"""A PostgreSQL server of its own on loopback, for as long as a block runs."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path


def programs():
    """Folder of PostgreSQL's programs: those on the path, or the newest of Debian's; None without any."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))


def why_not():
    """Why no server can be started here; empty if one can."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    try:
        import psycopg  # noqa: F401  # pyright: ignore
    except ImportError:
        return "psycopg is not installed (pip install 'psycopg[binary]')"
    return ""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server():
    """URL of the server's database. The server refuses to run as root, and runs as nobody then."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-", dir="/tmp"))
    user = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
    port, bin, data = _free_port(), programs(), str(folder / "data")

    def run(*command):
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    try:
        run(bin / "initdb", "--no-sync", "-A", "trust", "-U", "tester", "-D", data)
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F -c shared_buffers=8MB"
        run(bin / "pg_ctl", "-w", "-D", data, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            run(bin / "pg_ctl", "-w", "-m", "immediate", "-D", data, "stop")
    finally:
        shutil.rmtree(folder)
