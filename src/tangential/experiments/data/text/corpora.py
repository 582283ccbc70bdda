"""Texts to model: WikiText-103, and any text file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tangential.experiments.data.cache import cache_folder, cache_key, cached_tensor, file_state
from tangential.experiments.data.faults import DataError, no_damage, reason
from tangential.experiments.data.locations import locate, unpacked
from tangential.experiments.data.text.synthetic import SyntheticText
from tangential.experiments.data.text.tokenizers import SPLITS, Characters, Subwords, Words
from tangential.experiments.task import Split

Tokenizer = Characters | Words | Subwords


@dataclass(frozen=True, kw_only=True)
class _Text:
    """A text in three splits, one to train on and one to test on."""

    root: str | None = None
    train: str = "train"
    test: str = "test"

    def __post_init__(self) -> None:
        for split in (self.train, self.test):
            if split not in SPLITS:
                raise ValueError(f"{split!r} is no split of a text; there are {', '.join(SPLITS)}")

    def load(self, split: Split) -> Tensor:
        """Tokens of one split, `(count,)`."""
        return self._corpus().tokens(self.train if split == "train" else self.test)

    def lengths(self) -> Tensor:
        """Characters that each token of the vocabulary stands for in the split that is tested on, `(vocabulary,)`."""
        return self._corpus().lengths(self.test)

    def smoke(self) -> SyntheticText:
        """Synthetic text."""
        return SyntheticText()

    def _corpus(self) -> _Corpus:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TextFile(_Text):
    """One text file, in UTF-8, cut into three contiguous splits: to train, to choose settings, to test.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        places: Where the file may lie in it, the best first.
        tokenizer: What its tokens are.
        shares: Shares of its characters for `train`, `val` and `test`. For words and subwords the cuts are moved to the
            next end of a line, or to the next space if there are too few lines.
        train: The split that is trained on.
        test: The split that is tested on; `val` to choose settings.
        get: Where to get it, for the error if it is missing.
        size: How large it is, likewise.

    Raises:
        ValueError: Shares that are not positive or do not add up to one, or a split of another name.
    """

    places: tuple[str, ...]
    tokenizer: Tokenizer = field(default_factory=Characters)
    shares: tuple[float, float, float] = (0.9, 0.05, 0.05)
    get: str = "wherever it is"
    size: str = "any size"

    def __post_init__(self) -> None:
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError(f"shares={self.shares}: must be positive and add up to 1")
        super().__post_init__()

    def _corpus(self) -> _Corpus:
        path = locate(self.root, *self.places, get=self.get, size=self.size)
        return _Corpus(dict.fromkeys(SPLITS, path), self.tokenizer, self.shares)


@dataclass(frozen=True, kw_only=True)
class WikiText103(_Text):
    """WikiText-103 (arXiv 1609.07843): 103 million words of good articles, in lower and upper case, 267,735 of them.

    The vocabulary is that of Transformer-XL: all words of the training text, the rare ones being `<unk>` already, and
    the end of a line. Words and tokens are made once, in minutes, and stored in the cache.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
        train: The split that is trained on.
        test: The split that is tested on; `val` to choose settings.

    Raises:
        ValueError: A split of another name.
    """

    get = "https://wikitext.smerity.com/wikitext-103-v1.zip"
    size = "190 MB"

    def _corpus(self) -> _Corpus:
        found = locate(self.root, "wikitext-103", "wikitext-103-v1.zip", get=self.get, size=self.size)
        folder = found if found.is_dir() else unpacked(found) / "wikitext-103"
        files = {split: folder / f"wiki.{name}.tokens" for split, name in zip(SPLITS, _FILES, strict=True)}
        for file in files.values():
            if not file.exists():
                raise DataError(f"no {file.name} in {folder}; get it from {self.get} ({self.size}) and put it there")
        return _Corpus(files, Words(least=1), None)


_FILES = ("train", "valid", "test")
_VERSION = 2  # of the cached files; to be raised when tokenizers change
_LINE_END, _SPACE = re.compile(r"\n"), re.compile(r"\s")


@dataclass(frozen=True)
class _Corpus:
    """A text in three splits, with what its tokenizer has learned of it; this and all tokens are stored in the cache.

    Args:
        files: The file of each split.
        tokenizer: What the tokens are.
        shares: How the file is cut, if it is the same for all splits.
    """

    files: dict[str, Path]
    tokenizer: Tokenizer
    shares: tuple[float, float, float] | None

    def tokens(self, split: str) -> Tensor:
        tokens = cached_tensor(
            self._folder() / f"{split}.pt", lambda: self.tokenizer.encode(self._learned(), self._lines(split))
        )
        if not len(tokens):
            raise DataError(f"the split {split} of {self.files[split]} is empty; it needs a longer text")
        return tokens

    def lengths(self, split: str) -> Tensor:
        return cached_tensor(
            self._folder() / f"{split}-lengths.pt", lambda: self.tokenizer.lengths(self._learned(), self._lines(split))
        )

    def _learned(self) -> str:
        stored = cached_tensor(self._folder() / "learned.pt", lambda: _as_bytes(self.tokenizer.learn(self._lines)))
        return bytes(stored.tolist()).decode()

    def _folder(self) -> Path:
        """The folder in the cache for just these files, this tokenizer and these shares."""
        files = tuple((split, *file_state(file.resolve())) for split, file in self.files.items())
        folder = cache_folder() / f"text-{cache_key(_VERSION, files, repr(self.tokenizer), self.shares)}"
        folder.mkdir(exist_ok=True)
        return folder

    def _lines(self, split: str) -> Iterable[str]:
        text = self._text(self.files[split])
        return io.StringIO(text if self.shares is None else text[slice(*self._cut(text, split))], newline="\n")

    def _text(self, file: Path) -> str:
        """The text of a file, its line ends as they are, without a byte order mark."""
        try:
            return file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file} is not text in UTF-8 ({error.reason} at byte {error.start}); convert it"
            ) from error
        except OSError as error:
            if no_damage(error):
                raise
            raise DataError(f"{file} cannot be read ({reason(error)})") from error

    def _cut(self, text: str, split: str) -> tuple[int, int]:
        """Where a split of the single text begins and ends."""
        assert self.shares is not None
        places = [round(sum(self.shares[:count]) * len(text)) for count in range(len(SPLITS) + 1)]
        if not isinstance(self.tokenizer, Characters):
            at_lines = [_after(_LINE_END, text, place) for place in places]
            # a text of one line, or of a few long ones, is cut between its words
            places = at_lines if len(set(at_lines)) == len(places) else [_after(_SPACE, text, at) for at in places]
        index = SPLITS.index(split)
        return places[index], places[index + 1]


def _after(mark: re.Pattern[str], text: str, place: int) -> int:
    """The next place in a text, from this one on, that follows a line end or a space."""
    if not 0 < place < len(text):
        return place
    found = mark.search(text, place - 1)
    return found.end() if found else len(text)


def tiny_shakespeare(root: str | None = None) -> TextFile:
    """Tiny Shakespeare: 1,115,394 characters, 65 different ones, cut 90 / 5 / 5.

    Args:
        root: The folder of the data sets; None for the one that `TANGENTIAL_DATA` names.
    """
    return TextFile(
        root=root,
        places=("text-tinyshakespeare/input.txt", "tinyshakespeare/input.txt", "tinyshakespeare.txt"),
        get="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        size="1.1 MB",
    )


def _as_bytes(text: str) -> Tensor:
    return torch.tensor(bytearray(text.encode()), dtype=torch.uint8)
