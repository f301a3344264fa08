"""Labels and lists of them in messages."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["listed", "plain"]

SHOWN = 5


def listed(items: Iterable[Any], sep: str = ", ") -> str:
    """The first five, and how many more.

    Parameters
    ----------
    items : iterable
        Shown by ``str``.
    sep : {", ", "; "}
        The latter where items hold commas.
    """
    rest = iter(items)
    shown = sep.join(str(item) for item in islice(rest, SHOWN))
    n_more = sum(1 for _ in rest)
    return f"{shown}{sep.rstrip(', ')} and {n_more} more" if n_more else shown


def plain(label: Any) -> Any:
    """The label as Python's own type, whose repr names no package; times, which lose units, stay.

    Parameters
    ----------
    label : object
    """
    return label.item() if isinstance(label, np.number | np.bool_ | np.character) else label
