import tarfile
import zipfile
from contextlib import suppress

import pytest

from tangential.experiments.data.locations import locate, unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tangential"


def pack(path, name="set/one.txt", text="one"):
    source = path.parent / "one.txt"
    source.write_text(text)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            file.write(source, name)
    else:
        with tarfile.open(path, "w:xz") as file:
            file.add(source, name)
    return path


def test_the_root_given_wins_over_the_variable(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("TANGENTIAL_DATA", "/nowhere")
    assert locate(str(tmp_path), "other", "set", get="x", size="1 MB") == tmp_path / "set"
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path))
    assert locate(None, "set", get="x", size="1 MB") == tmp_path / "set"


def test_missing_data_get_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    with pytest.raises(ValueError, match=r"get set from x \(1 MB\).*data.root=FOLDER or TANGENTIAL_DATA"):
        locate(None, "set", get="x", size="1 MB")
    with pytest.raises(ValueError, match=r"no set in .*; get it from x \(1 MB\) and put it there"):
        locate(str(tmp_path), "set", get="x", size="1 MB")


@pytest.mark.parametrize("name", ["set.tar.xz", "set.zip"])
def test_an_archive_is_unpacked_once_and_anew_when_it_changes(tmp_path, cache, name):
    folder = unpacked(pack(tmp_path / name))
    assert (folder / "set" / "one.txt").read_text() == "one"
    (folder / "seen").touch()
    assert (unpacked(tmp_path / name) / "seen").exists()
    other = unpacked(pack(tmp_path / name, text="two, longer"))
    assert other != folder and (other / "set" / "one.txt").read_text() == "two, longer"


def test_a_broken_archive_is_named_and_leaves_no_folder(tmp_path, cache):
    (tmp_path / "set.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"set\.tar\.xz cannot be unpacked .*; get it again"):
        unpacked(tmp_path / "set.tar.xz")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("name", ["set.tar.xz", "set.zip"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, cache, name):
    archive = pack(tmp_path / name, name="../../../escaped.txt")
    with suppress(ValueError):
        unpacked(archive)
    assert not [path for path in tmp_path.rglob("escaped.txt") if cache not in path.parents]
