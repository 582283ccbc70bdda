"""The dataloader of a run: generators put back, announced batches delivered, a last batch of one refused at once."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from support.noisy_task import Noisy, plan
from tangential.experiments.training.loop import Training

pytestmark = pytest.mark.slow


class Drawing(TensorDataset):
    """Draws from every generator there is."""

    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs + torch.rand(()) + random.random() + float(np.random.rand()), targets


@dataclass(frozen=True)
class Drawn(Noisy):
    def batches(self, split, *, batch_size, generator=None):
        loader = super().batches(split, batch_size=batch_size, generator=generator)
        data = Drawing(*loader.dataset.tensors)
        return DataLoader(data, batch_size=batch_size, shuffle=generator is not None, generator=generator)


def test_generators_of_python_and_numpy_are_put_back():
    def draws():
        return random.random(), float(np.random.rand())

    random.seed(5)
    np.random.seed(5)
    expected = [draws() for _ in range(3)]
    training = Training(replace(plan, task=Drawn()))  # what it imports late draws at import
    random.seed(5)
    np.random.seed(5)
    found = []
    # after each of the three steps; the test set comes later, and is drawn without seeds by the task's own loader
    training.run_epoch(lambda: found.append(draws()) if len(found) < 3 else None)
    assert found == expected


def test_generators_are_put_back_after_a_sample_that_fails():
    class Failing(TensorDataset):
        def __getitem__(self, index):
            random.random()
            raise OSError("no such file")

    @dataclass(frozen=True)
    class Fails(Noisy):
        def batches(self, split, *, batch_size, generator=None):
            return DataLoader(Failing(*super().batches(split, batch_size=4).dataset.tensors), batch_size=4)

    training = Training(replace(plan, task=Fails()))
    random.seed(7)
    state = random.getstate()
    with pytest.raises(OSError, match="no such file"):
        training.run_epoch()
    assert random.getstate() == state


@pytest.mark.parametrize(("real", "word"), [(2, "fewer"), (4, "more")])
def test_loader_that_announces_another_number_of_batches_is_refused(real, word):
    class Announced(DataLoader):
        def __len__(self):
            return 3

    @dataclass(frozen=True)
    class Wrong(Noisy):
        def batches(self, split, *, batch_size, generator=None):
            data = TensorDataset(
                *(x[: 4 * real] for x in Noisy(images=16).batches("train", batch_size=4).dataset.tensors)
            )
            return (Announced if generator is not None else DataLoader)(data, batch_size=4)

    with pytest.raises(ValueError, match=f"the task's loader has {word} batches than the 3 it announced"):
        Training(replace(plan, task=Wrong())).run_epoch()


@dataclass(frozen=True)
class Normed(Noisy):
    dims: int = 1
    norm: bool = True

    def model(self):
        middle = {1: nn.BatchNorm1d(4), 2: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.BatchNorm2d(1), nn.Flatten())}
        return nn.Sequential(nn.Linear(3, 4), middle[self.dims] if self.norm else nn.ReLU(), nn.Linear(4, 1))


def test_last_batch_of_one_with_batch_norm_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match=r"batch_size=4: with 13 samples the last batch .*; choose another batch_size"):
        Training(replace(plan, task=Normed(images=13)))


@pytest.mark.parametrize("task", [Normed(images=13, dims=2), Normed(images=13, norm=False), Normed(images=14)])
def test_other_last_batches_train_and_the_check_changes_nothing(task):
    training = Training(replace(plan, task=task))
    torch.manual_seed(plan.seed)
    untouched = task.model()
    assert all(map(torch.equal, training.model.state_dict().values(), untouched.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), torch.random.get_rng_state())
    assert all(p.grad is None for p in training.model.parameters())
    training.run_epoch()


class Cut(TensorDataset):
    error: Exception = ValueError("/data/a/1.png cannot be read as an image (it is cut)")

    def __getitem__(self, index):
        if index == 5:
            raise self.error
        return super().__getitem__(index)


ERRORS = [
    Cut.error,
    OSError(2, "No such file or directory", "/data/a/1.png"),
    ValueError("/data/a/1.png:\nline 2 is cut"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["one line", "of the system", "two lines"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_is_that_of_the_dataset(monkeypatch, workers, split, error):
    monkeypatch.setattr(Cut, "error", error)

    @dataclass(frozen=True)
    class Broken(Noisy):
        def batches(self, split_, *, batch_size, generator=None):
            data = super().batches(split_, batch_size=batch_size).dataset
            data = Cut(*data.tensors) if split_ == split else data
            return DataLoader(data, batch_size=4, num_workers=workers)

    with pytest.raises(type(error)) as caught:
        Training(replace(plan, task=Broken())).run_epoch()
    assert str(caught.value) == str(error)
