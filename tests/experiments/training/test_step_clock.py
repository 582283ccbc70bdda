"""The clock of the steps: the device's time on a GPU, without waiting for it between steps."""

import time

import torch

from tangential.experiments.training.step_clock import StepClock


def test_seconds_add_up_and_begin_where_a_resumed_epoch_was():
    clock = StepClock(torch.device("cpu"))
    for _ in range(2):
        with clock:
            time.sleep(0.01)
    assert clock.seconds() >= 0.02
    clock.reset(5.0)
    assert clock.seconds() == 5.0


def test_gpu_is_timed_by_events_that_are_waited_for_at_the_end_alone(monkeypatch):
    waited = []

    class Event:
        made = 0

        def __init__(self, enable_timing):
            assert enable_timing
            Event.made += 1
            self.at = 250.0 * Event.made

        def record(self):
            pass

        def synchronize(self):
            waited.append(self.at)

        def elapsed_time(self, other):
            return other.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = StepClock(torch.device("cuda"))
    for _ in range(3):
        with clock:
            pass
    assert waited == []
    assert clock.seconds() == 0.75
    assert clock.seconds() == 0.75 and len(waited) == 3
