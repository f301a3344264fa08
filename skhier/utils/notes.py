"""Tables whose notes are printed beneath them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd

__all__ = ["NotedFrame"]


class NotedFrame(pd.DataFrame):
    """A data frame that shows the sentences of ``attrs["notes"]`` wherever it is printed.

    pandas carries ``attrs`` along, so that a rounded or filtered table has its notes too.

    Examples
    --------
    >>> table = NotedFrame({"mean": [1.25]})
    >>> table.attrs["notes"] = ["There is one row."]
    >>> print(table.round(1))
       mean
    0   1.2
    Note: There is one row.
    """

    @property
    def _constructor(self) -> Callable[..., NotedFrame]:
        return NotedFrame

    def to_string(self, buf: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As of ``DataFrame``, and a line for each note.

        Parameters
        ----------
        buf : path, file or None
            None: the text is returned.
        *args, **kwargs
            As of ``DataFrame``.
        """
        notes = self.attrs.get("notes", ())
        if buf is not None or not notes:
            return super().to_string(buf, *args, **kwargs)
        lines = [f"Note: {note}" for note in notes]
        return "\n".join([super().to_string(None, *args, **kwargs), *lines])

    def _repr_html_(self) -> str | None:
        table = super()._repr_html_()  # type: ignore[misc]
        notes = "".join(f"<p>Note: {escape(note)}</p>" for note in self.attrs.get("notes", ()))
        return table and table + notes
