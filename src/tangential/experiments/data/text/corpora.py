"""Texts to model: WikiText-103, and any text file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from tangential.experiments.data.cache import cache_folder, cached_tensor
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
        """Give one split as tokens, `(count,)`."""
        return self._corpus().tokens(self.train if split == "train" else self.test)

    def lengths(self) -> Tensor:
        """Say how many characters each token of the vocabulary stands for, `(vocabulary,)`."""
        return self._corpus().lengths()

    def smoke(self) -> SyntheticText:
        """Take generated text."""
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
        shares: Shares of its characters for `train`, `val` and `test`. For words and pieces the cuts are moved to the
            next end of a line.
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
    the end of a line. Words and numbers are made once, in minutes, and kept in the cache.

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
                raise ValueError(f"no {file.name} in {folder}; get it from {self.get} ({self.size}) and put it there")
        return _Corpus(files, Words(least=1), None)


_FILES = ("train", "valid", "test")


@dataclass(frozen=True)
class _Corpus:
    """A text in three splits, with what its units have learned of it; the latter and all tokens are kept in the cache.

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
            self._cache() / f"{split}.pt", lambda: self.tokenizer.encode(self._learned(), self._lines(split))
        )
        if not len(tokens):
            raise ValueError(f"the split {split} of {self.files[split]} is empty; it needs a longer text")
        return tokens

    def lengths(self) -> Tensor:
        return self.tokenizer.lengths(self._learned())

    def _learned(self) -> str:
        stored = cached_tensor(self._cache() / "learned.pt", lambda: _as_bytes(self.tokenizer.learn(self._lines)))
        return bytes(stored.tolist()).decode()

    def _cache(self) -> Path:
        """The folder in the cache for just these files, tokenizer and shares."""
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files.values()]
        mark = sha256(repr((stats, self.tokenizer, self.shares)).encode()).hexdigest()[:12]
        folder = cache_folder() / f"text-{mark}"
        folder.mkdir(exist_ok=True)
        return folder

    def _lines(self, split: str) -> Iterable[str]:
        try:
            if self.shares is None:
                with self.files[split].open(encoding="utf-8", newline="\n") as file:
                    yield from file
            else:
                yield from io.StringIO(self._cut(split, self.shares), newline="\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.files[split]} is not text in UTF-8 ({error.reason}); convert it") from error

    def _cut(self, split: str, shares: tuple[float, float, float]) -> str:
        """One split of the single file."""
        text = self.files[split].read_bytes().decode()
        index = SPLITS.index(split)
        begin, end = (self._place(text, sum(shares[:count])) for count in (index, index + 1))
        return text[begin:end]

    def _place(self, text: str, share: float) -> int:
        """Where this share of a text ends."""
        place = round(share * len(text))
        if isinstance(self.tokenizer, Characters) or not 0 < place < len(text):
            return place
        return (text.find("\n", place - 1) + 1) or len(text)


def tiny_shakespeare(root: str | None = None) -> TextFile:
    """Take 1,115,394 characters of Shakespeare, 65 different ones, cut 90 / 5 / 5.

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
