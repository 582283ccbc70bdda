"""A run is resumed on the data it was begun with, or not at all."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from support.noisy_task import Noisy, begin, plan
from tangential.experiments.training.data_identity import check_data, identity
from tangential.experiments.training.fit import fit


@dataclass(frozen=True)
class Other(Noisy):
    """The same settings, other data: one value of one split differs."""

    split: str = "train"

    def batches(self, split, *, batch_size, generator=None):
        loader = super().batches(split, batch_size=batch_size, generator=generator)
        tensors = [x.clone() for x in loader.dataset.tensors]
        if split == self.split:
            tensors[0][3, 1] += 1e-3
        return DataLoader(
            TensorDataset(*tensors), batch_size=batch_size, shuffle=generator is not None, generator=generator
        )


@pytest.fixture
def begun(tmp_path):
    folder = begin(tmp_path)
    next(fit(plan, folder))
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_changed_value_is_refused_and_nothing_is_written(begun, split):
    before = {path.name: path.read_bytes() for path in begun.path.iterdir() if path.name != "lock"}
    with pytest.raises(
        ValueError, match=rf"was begun with other data: {split} had 12 samples \(fingerprint .*; Put|Put"
    ):
        list(fit(replace(plan, task=Other(split=split)), begun))
    assert {path.name: path.read_bytes() for path in begun.path.iterdir() if path.name != "lock"} == before


def test_changed_number_of_samples_is_refused(begun):
    with pytest.raises(ValueError, match=r"train had 12 samples .*, now 16 samples"):
        list(fit(replace(plan, task=Noisy(images=16)), begun))


def test_same_data_go_on(begun):
    assert len(list(fit(plan, begun))) == 3
    assert set(json.loads(begun.data.read_text())) == {"train", "test"}


def test_run_of_an_earlier_version_gets_a_record(begun):
    begun.data.unlink()
    assert len(list(fit(plan, begun))) == 3
    assert begun.data.exists()


def test_run_without_a_checkpoint_begins_with_the_data_of_now(begun):
    begun.checkpoint.unlink()
    begun.previous_checkpoint.unlink(missing_ok=True)
    assert len(list(fit(replace(plan, task=Noisy(images=16)), begun))) == 4
    assert json.loads(begun.data.read_text())["train"]["samples"] == 16


def test_broken_record_is_named(begun):
    begun.data.write_text("[")
    with pytest.raises(ValueError, match=r"data\.json is broken"):
        list(fit(plan, begun))


def test_identity_of_splits_counts_which_samples_and_of_unknown_datasets_how_many(tmp_path):
    data = TensorDataset(torch.arange(6.0))
    one, other = identity(Subset(data, [0, 1, 2])), identity(Subset(data, [0, 1, 3]))
    assert one["samples"] == other["samples"] == 3
    assert one["fingerprint"] != other["fingerprint"]
    assert identity([1, 2]) == {"samples": 2, "fingerprint": None}
    assert identity(iter([1, 2])) == {"samples": None, "fingerprint": None}
    folder = begin(tmp_path)
    check_data(folder, {"train": [1, 2]})
    folder.checkpoint.touch()
    with pytest.raises(ValueError, match=r"train had 2 samples, now 3 samples"):
        check_data(folder, {"train": [1, 2, 3]})
