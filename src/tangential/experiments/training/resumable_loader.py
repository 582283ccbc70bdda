"""Resumable dataloader: the micro-batches of one process, from any batch of an epoch on.

A batch is `batch_size` samples whatever the number of processes. It is cut into `processes * accumulate` micro-batches:

    batch      [s0 s1 s2 s3 s4 s5 s6 s7]          two processes, accumulate=2
    process 0  [s0 s1]       [s4 s5]              places 0 and 2
    process 1        [s2 s3]       [s6 s7]        places 1 and 3

A loss that is a mean over samples is weighted by its share of the batch, so that the gradients of all micro-batches add
up to that of the whole batch, uneven ones included.

Each micro-batch is fetched under a seed made of run, epoch, batch and place. So random augmentation does not depend on
how many workers load it or who loaded before, and a run that is resumed in the middle of an epoch skips the batches it
has taken without loading them: the sampler draws the epoch's order again, and leaves out the first ones.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Sampler

from tangential.experiments.training.devices import placed

if TYPE_CHECKING:
    from lightning.fabric import Fabric

MicroBatch = tuple[float, Any]
"""The share of the batch that this is, from 0 to 1, and the samples."""


class ResumableLoader:
    """Training batches of one process, as micro-batches.

    Args:
        loader: The task's own.
        seed: The run's.
        fabric: Which process this is of how many, and on which device.
        accumulate: How many micro-batches each process takes a batch in, to need less memory.

    Raises:
        ValueError: The batches cannot be split among processes and micro-batches.
    """

    def __init__(self, loader: DataLoader[Any], *, seed: int, fabric: Fabric, accumulate: int = 1) -> None:
        self._fabric = fabric
        self._accumulate = accumulate
        self._sampler = None
        self._loader = loader
        self._dataset: Any = loader.dataset
        if loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset):
            sampler = ShardSampler(loader.batch_sampler, seed, fabric.global_rank, fabric.world_size, accumulate)
            self._sampler, self._loader = sampler, _rebuilt(loader, sampler)
        elif fabric.world_size * accumulate > 1:
            raise ValueError(
                "this task's data come as a stream, which cannot be split; use one process and accumulate=1"
            )
        self._steps = len(loader)

    def __len__(self) -> int:
        return self._steps

    @property
    def least_samples(self) -> int | None:
        """Samples of the smallest micro-batch of an epoch; None where that is not known beforehand."""
        return None if self._sampler is None else self._sampler.least_samples

    @property
    def samples(self) -> int:
        """Samples of the dataset."""
        return len(self._dataset)

    def sample(self) -> Any:
        """The first sample of the dataset, as a batch of one, placed where the model is."""
        _, samples = self._loader.dataset.__getitems__([(0, 1.0), 0])  # type: ignore[attr-defined]
        return placed(self._fabric, samples)

    def epoch(
        self, number: int, *, taken: int = 0, ready: Callable[[], None] = lambda: None
    ) -> Iterator[list[MicroBatch]]:
        """Iterate over the rest of an epoch; each item is the micro-batches of one batch.

        Args:
            number: Which epoch, from 0: it decides the seeds.
            taken: How many batches were taken before.
            ready: Called once the order is drawn and those are skipped.
        """
        micro_batches = self._sampled(number, taken, ready) if self._sampler else self._streamed(taken, ready)
        for _ in range(taken, self._steps):
            batch = list(islice(micro_batches, self._accumulate))
            if len(batch) < self._accumulate:
                raise ValueError(f"the task's loader has fewer batches than the {self._steps} it announced")
            yield batch
        for _ in micro_batches:  # a sampler may draw its last numbers when it ends
            raise ValueError(f"the task's loader has more batches than the {self._steps} it announced")

    def _sampled(self, number: int, taken: int, ready: Callable[[], None]) -> Iterator[MicroBatch]:
        assert self._sampler is not None
        self._sampler.epoch, self._sampler.taken = number, taken
        loaded = batches_of(self._loader)
        first = next(loaded, None)  # only now is the order drawn
        ready()
        while first is not None:
            weight, samples = first
            yield weight, placed(self._fabric, samples)
            first = next(loaded, None)

    def _streamed(self, taken: int, ready: Callable[[], None]) -> Iterator[MicroBatch]:
        loaded = batches_of(self._loader)
        for _ in range(taken):
            next(loaded)
        ready()
        for samples in loaded:
            yield 1.0, placed(self._fabric, samples)


class ShardSampler(Sampler[list[Any]]):
    """Batch sampler of one process: for each micro-batch `[(seed, share of the batch), *indices of its samples]`.

    Args:
        batches: The sampler of whole batches, the same in every process.
        seed: The run's.
        rank: Which process this is.
        processes: Of how many.
        accumulate: Micro-batches that each takes of a batch.

    Raises:
        ValueError: The last batch of an epoch, the smallest, has too few samples to be split.
    """

    def __init__(self, batches: Iterable[Sequence[int]], seed: int, rank: int, processes: int, accumulate: int) -> None:
        self._batches = batches
        self._seed = seed
        self._places = [turn * processes + rank for turn in range(accumulate)]
        self._shares = processes * accumulate
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

    @property
    def least_samples(self) -> int | None:
        """Samples of the smallest micro-batch of an epoch; None for a sampler that does not make plain batches."""
        smallest = self._smallest_batch()
        return None if smallest is None else smallest // self._shares

    def _smallest_batch(self) -> int | None:
        if type(self._batches) is not BatchSampler:
            return None
        size, samples = self._batches.batch_size, len(self._batches.sampler)  # type: ignore[arg-type]
        rest = 0 if self._batches.drop_last else samples % size
        return min(samples, rest or size)

    def _check_last(self) -> None:
        """Refuse a last batch that is too small at once, before an epoch is spent."""
        smallest = self._smallest_batch()
        if smallest is not None and smallest < self._shares:
            raise ValueError(_too_small(smallest, self._shares))


class SeededDataset(Dataset[MicroBatch]):
    """Dataset whose every fetch draws from the seed that comes with it, and leaves the generators as they were."""

    def __init__(self, data: Any, collate: Callable[[Any], Any]) -> None:
        self._data = data
        self._collate = collate

    def __getitem__(self, key: Any) -> MicroBatch:
        raise TypeError("a seeded dataset is fetched a micro-batch at a time")

    def __getitems__(self, keys: list[Any]) -> MicroBatch:
        (seed, weight), *numbers = keys
        whole = getattr(self._data, "__getitems__", None)
        with _seeded(seed):
            samples = self._collate(whole(numbers) if callable(whole) else [self._data[i] for i in numbers])
        return weight, samples


def batches_of(loader: Iterable[Any]) -> Iterator[Any]:
    """Iterate over a dataloader, with errors of its workers as they were raised.

    torch puts the worker's whole traceback into the message; here it is the cause, and the message is the error's own.
    """
    try:
        yield from loader
    except Exception as error:
        found = re.match(r"Caught (\w+) in (?:DataLoader worker|pin memory thread)", str(error))
        if found is None:
            raise
        # the traceback ends with `ValueError: message`, whose message may have several lines
        message = re.split(rf"^(?:\w+\.)*{found[1]}: ?", str(error), flags=re.MULTILINE)[-1].strip()
        raise type(error)(message) from error


def _rebuilt(loader: DataLoader[Any], sampler: ShardSampler) -> DataLoader[MicroBatch]:
    """The same loader over a process's micro-batches."""
    return DataLoader(
        SeededDataset(loader.dataset, loader.collate_fn),
        batch_sampler=sampler,
        collate_fn=_collated,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _collated(samples: Any) -> Any:
    """What `SeededDataset` gives is collated already; workers need a function that can be pickled."""
    return samples


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators that a dataset may draw from (torch's, Python's, NumPy's), and put them back afterwards."""
    numpy: Any = sys.modules["numpy"].random if "numpy" in sys.modules else None
    before = torch.get_rng_state(), random.getstate(), numpy.get_state() if numpy else None
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if numpy:
        numpy.seed(seed % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        if numpy:
            numpy.set_state(before[2])


def _too_small(samples: int, shares: int) -> str:
    return (
        f"a batch of {samples} samples cannot be shared by {shares}, which is processes times accumulate; choose"
        " another batch_size, or fewer of them"
    )
