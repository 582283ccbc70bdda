"""Errors and warnings of readers, archives and the cache: one line each, whatever is damaged."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile

import pytest
import torch
from tests.support.hostile import Refused, damaged, outcome, warned
from torch.utils.data import DataLoader, Dataset

from tangential.experiments.data.cache import cache_folder, cache_key, cached_tensor, file_state
from tangential.experiments.data.faults import DataError, no_damage, printable, reason, warn_left_out
from tangential.experiments.data.locations import data_folder, locate, unpacked


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError(f"/data/{index}.png is empty")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_the_same_line_with_workers_and_without(workers):
    with pytest.raises(DataError) as caught:
        next(iter(DataLoader(Broken(), num_workers=workers)))
    assert str(caught.value) == "/data/0.png is empty"


def test_an_error_goes_to_another_process_and_back():
    assert str(pickle.loads(pickle.dumps(DataError("a.png is empty")))) == "a.png is empty"


@pytest.mark.parametrize(
    "name", ["a\nb", "a\rb", "a\x1b[31mb", "a\u2028b", "a\u202eb", "a\x00b", b"a\xff".decode(errors="surrogateescape")]
)
def test_names_are_one_line_of_printable_characters(name):
    line = str(DataError(f"{name} is empty"))
    assert line.isprintable() and printable(name).isprintable()
    line.encode()  # a terminal could not show a lone surrogate


@pytest.mark.slow
def test_reasons_are_one_line():
    assert reason(ValueError("one:\ntwo")) == "one" and reason(EOFError()) == "EOFError"
    assert reason(FileNotFoundError(2, "No such file or directory", "/a")) == "No such file or directory"


def test_the_machine_is_told_from_the_file():
    assert no_damage(PermissionError(13, "")) and no_damage(OSError(24, "")) and no_damage(MemoryError())
    assert not any(map(no_damage, (OSError("CRC check failed"), FileNotFoundError(2, ""), EOFError(), ValueError())))


def test_a_warning_counts_all_and_names_the_first():
    _, lines = warned(lambda: warn_left_out("set", "boxes", [f"{n}.png (empty)" for n in range(7)], count=9))
    assert lines == ["set: 7 of 9 boxes left out: " + ", ".join(f"{n}.png (empty)" for n in range(5)) + ", and 2 more"]
    assert warned(lambda: warn_left_out("set", "boxes", []))[1] == []


# archives -------------------------------------------------------------------------------------------------------------

CONTENT = {f"set/{number}.bin": bytes([number]) * 700 + bytes(range(256)) for number in range(5)}


def packed(kind):
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in CONTENT.items():
                archive.writestr(name, data)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in CONTENT.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[kind](file.getvalue())


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_a_damaged_archive_is_named_or_gives_what_was_packed(tmp_path, kind):
    refused = 0
    for number, (how, data) in enumerate(damaged(packed(kind))):
        path = tmp_path / f"{number}-set.{kind}"
        path.write_bytes(data)
        found = outcome(lambda path=path: content(unpacked(path)), name=path.name)
        assert isinstance(found, Refused) or found == CONTENT, how
        refused += isinstance(found, Refused)
    assert refused > 100
    assert not list(cache_folder().glob("*.part"))


def test_a_cut_tar_file_is_named(tmp_path):
    whole = packed("")
    for place in (0, 1, 512, 600, 1536, 3000, 1536 * 5):
        (tmp_path / f"{place}.tar").write_bytes(whole[:place])
        assert isinstance(outcome(lambda place=place: unpacked(tmp_path / f"{place}.tar"), name=".tar"), Refused)


def test_a_damaged_header_is_not_the_end_of_a_tar_file(tmp_path):
    whole = bytearray(packed(""))
    whole[1536 + 20] ^= 1  # the name in the second header, whose checksum is then wrong
    (tmp_path / "set.tar").write_bytes(whole)
    assert "set.tar cannot be unpacked" in outcome(lambda: unpacked(tmp_path / "set.tar"))


def test_a_tar_file_that_ends_with_a_zip_file_is_a_tar_file(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, data in (("a.txt", b"a"), ("b.zip", packed("zip"))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert set(content(unpacked(tmp_path / "set.tar"))) == {"a.txt", "b.zip"}


def test_an_archive_of_nothing_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w"):
        pass
    assert "set.zip is an empty archive" in outcome(lambda: unpacked(tmp_path / "set.zip"))


def test_a_folder_that_has_lost_files_is_unpacked_anew(tmp_path):
    (tmp_path / "set.zip").write_bytes(packed("zip"))
    folder = unpacked(tmp_path / "set.zip")
    (folder / "set" / "3.bin").unlink()
    assert content(unpacked(tmp_path / "set.zip")) == CONTENT


# the cache ------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_of_the_cache_is_computed_anew(tmp_path):
    value = torch.arange(100)
    cached_tensor(tmp_path / "a.pt", lambda: value)
    whole = (tmp_path / "a.pt").read_bytes()
    for _, data in damaged(whole, count=10):
        (tmp_path / "a.pt").write_bytes(data)
        assert torch.equal(cached_tensor(tmp_path / "a.pt", lambda: value), value)
    torch.save({"a": 1}, tmp_path / "a.pt")
    assert torch.equal(cached_tensor(tmp_path / "a.pt", lambda: value), value)


def test_what_the_machine_refuses_is_not_taken_for_damage(tmp_path, monkeypatch):
    cached_tensor(tmp_path / "a.pt", lambda: torch.ones(1))
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(OSError, match="Too many open files"):
        cached_tensor(tmp_path / "a.pt", lambda: pytest.fail("computed anew"))
    assert (tmp_path / "a.pt").exists()


def test_keys_differ_by_all_they_are_of(tmp_path):
    (tmp_path / "a").write_text("one")
    first = cache_key(1, file_state(tmp_path / "a"))
    (tmp_path / "a").write_text("two!")
    keys = {first, cache_key(1, file_state(tmp_path / "a")), cache_key(2, file_state(tmp_path / "a"))}
    assert len(keys) == 3 and file_state(tmp_path / "none")[1:] == (-1, -1)


# paths ----------------------------------------------------------------------------------------------------------------


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data" / "set").mkdir(parents=True)
    assert locate("~/data", "set", get="x", size="1 MB") == tmp_path / "data" / "set"
    monkeypatch.setenv("TANGENTIAL_DATA", "~/data")
    assert data_folder(None) == tmp_path / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    assert cache_folder() == tmp_path / "cache" / "tangential"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "tangential"


@pytest.mark.parametrize("root", ["", "  "])
def test_an_empty_path_is_refused(monkeypatch, root):
    with pytest.raises(ValueError, match=r"task\.data\.root is empty"):
        locate(root, "set", get="x", size="1 MB")
    monkeypatch.setenv("TANGENTIAL_DATA", root)
    with pytest.raises(ValueError, match="TANGENTIAL_DATA is empty"):
        locate(None, "set", get="x", size="1 MB")


@pytest.mark.parametrize("names", [(), ("",), ("a", "/")])
def test_empty_places_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="each has to name a file or a folder"):
        locate(str(tmp_path), *names, get="x", size="1 MB")
