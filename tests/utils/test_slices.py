"""Work in parts."""

import pytest

from skhier.utils.slices import slices


@pytest.mark.parametrize(("n", "size", "n_parts"), [(0, 3, 0), (7, 3, 3), (6, 3, 2), (4, 0, 4)])
def test_parts_cover_everything_once(n, size, n_parts):
    parts = list(slices(n, size))
    assert len(parts) == n_parts
    assert [i for part in parts for i in range(n)[part]] == list(range(n))
