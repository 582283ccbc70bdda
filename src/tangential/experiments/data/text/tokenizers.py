"""Tokenizers: characters, words, and subwords that are learned from a text.

What a tokenizer learns from a text is itself a text (the characters, the words, the merges), so that it can be stored
in a file. With it, `encode` turns any text into numbers, and `lengths` gives the characters that each number stands
for, by which bits per character are computed.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from tangential.experiments.settings.bounds import check_at_least

SPLITS = ("train", "val", "test")
UNKNOWN, END = "<unk>", "<eos>"

Lines = Callable[[str], Iterable[str]]
"""Gives the lines of a split of a text, each with its newline."""


@dataclass(frozen=True, kw_only=True)
class Characters:
    r"""Every character is a token. All that occur in any split of the text are known.

    Examples:
        >>> tokenizer = Characters()
        >>> learned = tokenizer.learn(lambda split: ["abba\n"])
        >>> tokenizer.encode(learned, ["baba"]).tolist()
        [2, 1, 2, 1]
    """

    def learn(self, lines: Lines) -> str:
        """Collect the characters, in the order of their numbers in Unicode."""
        return "".join(sorted(set(chain.from_iterable(chain.from_iterable(map(lines, SPLITS))))))

    def encode(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Turn a text of known characters into their numbers, `(count,)`."""
        return torch.searchsorted(_points(learned), _points("".join(lines))).int()

    def lengths(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Characters that each token stands for: one."""
        return torch.ones(len(learned), dtype=torch.long)


@dataclass(frozen=True, kw_only=True)
class Words:
    r"""Whatever stands between spaces is a token, and so is the end of each line.

    Words are numbered from the most frequent one on, in the training split, as an adaptive softmax needs it. A word
    that is not known is read as `<unk>`.

    Args:
        least: How often a word must occur in the training split to be known; with 1, `<unk>` is learned only if the
            text has it.

    Raises:
        ValueError: A count below one.

    Examples:
        >>> tokenizer = Words(least=1)
        >>> learned = tokenizer.learn(lambda split: ["to be or not to be\n"])
        >>> learned.split()
        ['be', 'to', '<eos>', 'not', 'or', '<unk>']
        >>> tokenizer.encode(learned, ["to do\n"]).tolist()
        [1, 5, 2]
    """

    least: int = 2

    def __post_init__(self) -> None:
        check_at_least(1, least=self.least)

    def learn(self, lines: Lines) -> str:
        """Collect the words of the training split, one per line."""
        counts: Counter[str] = Counter()
        for line in lines("train"):
            counts.update(_words(line))
        rare = [word for word, count in counts.items() if count < self.least]
        counts[UNKNOWN] += sum(map(counts.pop, rare))
        return "\n".join(sorted(counts, key=lambda word: (-counts[word], word)))

    def encode(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Turn a text into the numbers of its words, `(count,)`."""
        index = {word: number for number, word in enumerate(learned.split("\n"))}
        unknown = index[UNKNOWN]
        numbers = array("i")
        for line in lines:
            numbers.extend([index.get(word, unknown) for word in _words(line)])
        return torch.tensor(numbers, dtype=torch.int32)

    def lengths(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Characters that each token stands for, so that those of all tokens of a text add up to the text.

        A word stands for itself and one space, or line end, after it; `<unk>` is a word like any other, that replaces
        the unknown ones. What is left of the spaces and line ends, of which a text may have more or fewer, is shared by
        the ends of lines: nothing if single spaces part the words, 2 in WikiText, where each line begins and ends with
        a space.

        Args:
            learned: The result of `learn`.
            lines: The text whose characters are counted.

        Returns:
            `(vocabulary,)`, integers if all are.
        """
        words, ends, spaces = 0, 0, 0
        for line in lines:
            split = line.split()
            words, ends = words + len(split), ends + line.endswith("\n")
            spaces += len(line) - sum(map(len, split))
        of_end = (spaces - words) / max(ends, 1)
        lengths = [of_end if word == END else len(word) + 1.0 for word in learned.split("\n")]
        return torch.tensor(lengths, dtype=torch.int64 if of_end.is_integer() else torch.float64)


@dataclass(frozen=True, kw_only=True)
class Subwords:
    """Frequent strings are tokens: byte-pair encoding (arXiv 1508.07909) over characters, by the package `tokenizers`.

    Subwords do not reach over the space before a word. All characters of any split are subwords, so none is unknown.

    Args:
        count: Size of the vocabulary, at least as many as there are characters.

    Raises:
        ValueError: A count below one.
    """

    count: int = 1000

    def __post_init__(self) -> None:
        check_at_least(1, count=self.count)

    def learn(self, lines: Lines) -> str:
        """Merges that are learned from the training split."""
        try:
            from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers  # an extra; most tasks do without
        except ImportError as error:
            raise ValueError("subwords need tokenizers: pip install 'tangential[language]'") from error

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?\S+|\s"), behavior="isolated")
        alphabet = list(Characters().learn(lines))
        if len(alphabet) > self.count:
            raise ValueError(f"count={self.count}: the text has {len(alphabet)} characters, and each is a subword")
        trainer = trainers.BpeTrainer(vocab_size=self.count, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(lines("train"), trainer)
        return tokenizer.to_str()

    def encode(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Turn a text into the numbers of its subwords, `(count,)`."""
        from tokenizers import Tokenizer

        numbers = array("i")
        for each in Tokenizer.from_str(learned).encode_batch(list(lines)):
            numbers.extend(each.ids)
        return torch.tensor(numbers, dtype=torch.int32)

    def lengths(self, learned: str, lines: Iterable[str]) -> Tensor:
        """Characters that each token stands for."""
        from tokenizers import Tokenizer

        vocabulary = Tokenizer.from_str(learned).get_vocab()
        return torch.tensor([len(subword) for subword in sorted(vocabulary, key=vocabulary.__getitem__)])


def _words(line: str) -> list[str]:
    return [*line.split(), END] if line.endswith("\n") else line.split()


def _points(text: str) -> Tensor:
    """The numbers of characters in Unicode."""
    return torch.tensor(array("I", text.encode("utf-32-le")), dtype=torch.int64)
