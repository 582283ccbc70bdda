"""Texts as a disk or a stranger hands them over: encodings, line ends, cuts and damage."""

import os
from dataclasses import replace

import pytest
from tests.support.hostile import Refused, damaged, outcome

from tangential.experiments.data.text.corpora import TextFile, WikiText103
from tangential.experiments.data.text.tokenizers import Characters, Words


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def text_of(root, tokenizer, data):
    """The text of all splits, from its tokens."""
    (root / "mine.txt").write_bytes(data)
    corpus = TextFile(root=str(root), places=("mine.txt",), tokenizer=tokenizer, shares=(0.6, 0.2, 0.2))
    known = corpus._corpus()._learned()
    words = list(known) if isinstance(tokenizer, Characters) else [f"{word} " for word in known.split("\n")]
    return "".join(
        words[token] for split in ("train", "val", "test") for token in replace(corpus, test=split).load("test")
    )


TEXT = "the cat sät\non a mat\n" * 20


def test_a_byte_order_mark_is_no_character(tmp_path):
    assert text_of(tmp_path, Characters(), b"\xef\xbb\xbf" + TEXT.encode()) == TEXT


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", "\u2028"])
def test_line_ends_are_characters_like_others(tmp_path, end):
    text = TEXT.replace("\n", end)
    assert text_of(tmp_path, Characters(), text.encode()) == text


@pytest.mark.parametrize(
    "text",
    [TEXT, TEXT.replace("\n", " "), TEXT.replace("\n", "\r"), "one two " * 9],
    ids=["lines", "one line", "old line ends", "short"],
)
def test_words_are_cut_between_words_and_none_is_lost(tmp_path, text):
    found = text_of(tmp_path, Words(least=1), text.encode())
    known = {word for word in found.split() if word != "<unk>"}
    wanted = [word if word in known else "<unk>" for word in text.split()]
    assert [word for word in found.split() if word != "<eos>"] == wanted


@pytest.mark.parametrize("data", ["é".encode("latin-1") * 9, TEXT.encode("utf-16"), TEXT.encode()[:9], b"", None])
def test_a_text_of_another_encoding_or_none_is_named(tmp_path, data):
    path = tmp_path / "mine.txt"
    path.mkdir() if data is None else path.write_bytes(data)
    corpus = TextFile(root=str(tmp_path), places=("mine.txt",))
    for split in ("train", "val", "test"):
        found = outcome(lambda split=split: replace(corpus, test=split).load("test"), name="mine.txt")
    assert isinstance(found, Refused) or data == TEXT.encode()[:9]


def test_no_damage_of_a_text_ends_in_a_traceback(tmp_path):
    for _, data in damaged(TEXT.encode(), count=40):
        outcome(lambda data=data: text_of(tmp_path, Words(least=1), data), name="mine.txt")


def test_a_text_of_the_same_size_that_is_replaced_is_read_again(tmp_path):
    for number, text in enumerate((TEXT, TEXT.replace("cat", "dog"))):
        (tmp_path / "mine.txt").write_bytes(text.encode())
        os.utime(tmp_path / "mine.txt", (number, number))
        assert text_of(tmp_path, Characters(), text.encode()) == text


@pytest.mark.parametrize(
    "settings", [{"shares": (0.5, 0.25, 0.25)}, {"tokenizer": Words(least=1)}, {"tokenizer": Words(least=9)}]
)
def test_the_cache_knows_the_settings(tmp_path, settings):
    (tmp_path / "mine.txt").write_text(TEXT)
    plain = TextFile(root=str(tmp_path), places=("mine.txt",))
    before = plain.load("train")
    assert len(replace(plain, **settings).load("train")) != len(before)
    assert len(list((tmp_path / "cache" / "tangential").glob("text-*"))) == 2


@pytest.mark.parametrize("name", ["train", "valid", "test"])
@pytest.mark.parametrize("data", [b"", "é".encode("latin-1")])
def test_files_of_wikitext_that_are_damaged_are_named(tmp_path, name, data):
    folder = tmp_path / "wikitext-103"
    folder.mkdir()
    for each in ("train", "valid", "test"):
        (folder / f"wiki.{each}.tokens").write_bytes(data if each == name else b" the cat \n")
    corpus = WikiText103(root=str(tmp_path))
    for split in ("train", "val", "test"):
        found = outcome(lambda split=split: replace(corpus, test=split).load("test"), name="")
        if isinstance(found, Refused):
            assert f"wiki.{name}.tokens" in found
            break
    else:
        pytest.fail("not noticed")
