"""The batches of an epoch as one process takes them: its share of each, in parts, from where the run was stopped.

A batch is `batch_size` samples whatever the number of processes: each takes a share, and a loss that is a mean over
samples is weighted by the share, so that the gradients of all add up to that of the whole batch. Every share is drawn
from a seed of its own. So random augmentation does not depend on how many workers load it, and a run that goes on in
the middle of an epoch skips what it has taken without loading it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Sampler

from tangential.experiments.training.devices import placed

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Part = tuple[float, Any]
"""The share of the batch that this is, from 0 to 1, and the samples."""


class Feed:
    """The training batches of a process.

    Args:
        loader: The task's own.
        seed: The run's.
        fabric: Which process this is of how many, and on which device.
        parts: How many pieces each process takes a batch in, to need less memory.

    Raises:
        ValueError: The batches cannot be split as asked.
    """

    def __init__(self, loader: DataLoader[Any], *, seed: int, fabric: Fabric, parts: int = 1) -> None:
        self._fabric = fabric
        self._parts = parts
        self._shares = None
        self._loader = loader
        if loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset):
            shares = Shares(loader.batch_sampler, seed, fabric.global_rank, fabric.world_size, parts)
            self._shares, self._loader = shares, _rebuilt(loader, shares)
        elif fabric.world_size * parts > 1:
            raise ValueError(
                "this task's data come as a stream, which cannot be split; use one process and accumulate=1"
            )
        self._steps = len(loader)

    def __len__(self) -> int:
        return self._steps

    def epoch(self, number: int, *, taken: int = 0, ready: Callable[[], None] = lambda: None) -> Iterator[list[Part]]:
        """Give the parts of each batch.

        Args:
            number: Which epoch, from 0: it decides the seeds.
            taken: How many batches were taken before.
            ready: Called once the order is drawn and those are skipped.
        """
        parts = self._sampled(number, taken, ready) if self._shares else self._streamed(taken, ready)
        for _ in range(taken, self._steps):
            yield [next(parts) for _ in range(self._parts)]
        for _ in parts:  # a sampler may draw its last numbers when it ends
            raise ValueError(f"the task's loader has more batches than the {self._steps} it announced")

    def _sampled(self, number: int, taken: int, ready: Callable[[], None]) -> Iterator[Part]:
        assert self._shares is not None
        self._shares.epoch, self._shares.taken = number, taken
        loaded = iter(self._loader)
        first = next(loaded, None)  # only now is the order drawn
        ready()
        while first is not None:
            weight, samples = first
            yield weight, placed(self._fabric, samples)
            first = next(loaded, None)

    def _streamed(self, taken: int, ready: Callable[[], None]) -> Iterator[Part]:
        loaded = iter(self._loader)
        for _ in range(taken):
            next(loaded)
        ready()
        for samples in loaded:
            yield 1.0, placed(self._fabric, samples)


class Shares(Sampler[list[Any]]):
    """One process's parts of every batch: the seed and the weight of a part, then the numbers of its samples."""

    def __init__(self, batches: Iterable[Sequence[int]], seed: int, rank: int, processes: int, parts: int) -> None:
        self._batches = batches
        self._seed = seed
        self._places = [part * processes + rank for part in range(parts)]
        self._shares = processes * parts
        self.epoch = 0
        self.taken = 0
        self._check_last()

    def __iter__(self) -> Iterator[list[Any]]:
        for number, batch in enumerate(self._batches):
            if number < self.taken:
                continue
            for place in self._places:
                numbers = batch[place * len(batch) // self._shares : (place + 1) * len(batch) // self._shares]
                if not numbers:
                    raise ValueError(_too_small(len(batch), self._shares))
                # a text makes a generator's seed the same in every Python, process and version
                seed = random.Random(f"{self._seed} {self.epoch} {number} {place}").getrandbits(63)
                yield [(seed, len(numbers) / len(batch)), *numbers]

    def _check_last(self) -> None:
        """Say of the last batch of an epoch, the smallest, that it cannot be shared, before the epoch is spent."""
        if type(self._batches) is not BatchSampler:
            return
        size, samples = self._batches.batch_size, len(self._batches.sampler)  # type: ignore[arg-type]
        rest = 0 if self._batches.drop_last else samples % size
        smallest = min(samples, rest or size)
        if smallest < self._shares:
            raise ValueError(_too_small(smallest, self._shares))


class Seeded(Dataset[Part]):
    """A data set whose every fetch draws from the seed that comes with it, and leaves the generators as they were."""

    def __init__(self, data: Any, collate: Callable[[Any], Any]) -> None:
        self._data = data
        self._collate = collate

    def __getitem__(self, key: Any) -> Part:
        raise TypeError("a seeded data set is fetched a part at a time")

    def __getitems__(self, keys: list[Any]) -> Part:
        (seed, weight), *numbers = keys
        before = torch.get_rng_state()
        _seed_all(seed)
        whole = getattr(self._data, "__getitems__", None)
        samples = self._collate(whole(numbers) if callable(whole) else [self._data[i] for i in numbers])
        torch.set_rng_state(before)
        return weight, samples


def _rebuilt(loader: DataLoader[Any], shares: Shares) -> DataLoader[Part]:
    """The same loader over a process's shares."""
    return DataLoader(
        Seeded(loader.dataset, loader.collate_fn),
        batch_sampler=shares,
        collate_fn=_as_it_is,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _as_it_is(samples: Any) -> Any:
    return samples


def _seed_all(seed: int) -> None:
    """Seed the generators that a data set may draw from: torch's, and for foreign ones Python's and NumPy's."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _too_small(samples: int, shares: int) -> str:
    return (
        f"a batch of {samples} samples cannot be shared by {shares}, which is processes times accumulate; choose"
        " another batch_size, or fewer of them"
    )
