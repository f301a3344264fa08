"""Lists in messages."""

import numpy as np
import pytest

from skhier.utils.words import listed, plain


@pytest.mark.parametrize(
    ("items", "sep", "expected"),
    [
        ([], ", ", ""),
        (range(5), ", ", "0, 1, 2, 3, 4"),
        (range(7), ", ", "0, 1, 2, 3, 4 and 2 more"),
        (map(repr, "abcdef"), ", ", "'a', 'b', 'c', 'd', 'e' and 1 more"),
        (["a, b", "c"], "; ", "a, b; c"),
        (range(6), "; ", "0; 1; 2; 3; 4; and 1 more"),
    ],
)
def test_five_are_shown_and_the_rest_counted(items, sep, expected):
    assert listed(items, sep) == expected


def test_labels_are_shown_as_pythons_own():
    for label in (np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), np.bytes_(b"a")):
        assert repr(plain(label)) == repr(label.item())
    day = np.datetime64("2020-01-01", "ns")
    assert plain(day) is day
    assert plain((1, "a")) == (1, "a")
