"""Lists in messages."""

import pytest

from skhier.utils.words import listed


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
