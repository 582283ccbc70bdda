"""Lower bounds: one sentence for every setting."""

import pytest

from tangential.experiments.settings.bounds import check_at_least


@pytest.mark.parametrize("value", [1, 1.0, 7, None, (), (1, 2), [3]])
def test_values_within_pass(value):
    check_at_least(1, size=value)


@pytest.mark.parametrize("value", [0, -1, 0.999, float("nan"), (1, 0), [2, float("nan")]])
def test_value_below_is_named_with_its_bound(value):
    with pytest.raises(ValueError) as caught:
        check_at_least(1, other=1, size=value)
    assert str(caught.value) == f"size={value}: must be at least 1"


def test_note_ends_the_sentence():
    with pytest.raises(ValueError, match=r"^limit=0: must be at least 1, or none for all images$"):
        check_at_least(1, limit=0, note="or none for all images")
