"""Labels, numbers and names as pictures print them."""

from __future__ import annotations

from typing import Any

__all__ = [
    "LABEL_LENGTH",
    "effect_label",
    "printed_labels",
    "printed_number",
    "shortened",
    "target_name_of",
]

LABEL_LENGTH = 24  # characters


def effect_label(effect: str) -> str:
    """What an axis of this effect's coefficients is called."""
    return "Intercept" if effect == "intercept" else f"Slope of {effect}"


def printed_number(value: float) -> str:
    """Two decimals, and a minus that is as wide as a plus."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def target_name_of(y: Any) -> str:
    """The name that y came with, else ``"y"``."""
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "y"


def printed_labels(labels: Any) -> list[str]:
    """Levels' labels, shortened; days without a time, of a nesting ``state:cafe``."""
    import pandas as pd

    index = labels if isinstance(labels, pd.Index) else pd.Index(labels)
    columns = [index.get_level_values(k).astype(str) for k in range(index.nlevels)]
    return [shortened(":".join(parts)) for parts in zip(*columns, strict=True)]


def shortened(text: str, length: int = LABEL_LENGTH) -> str:
    """Both ends of a long text: either may tell it from others."""
    head, tail = length - length // 2 - 1, length // 2
    return text if len(text) <= length else f"{text[:head]}…{text[-tail:]}"
