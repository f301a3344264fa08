"""Levels' labels as displays print them."""

import re

import pandas as pd
import pytest
from displays import short_fit

from skhier.plotting import FittedLinesDisplay, GroupCoefDisplay


def test_labels_of_a_nesting_are_joined(nested):
    model, X, y = nested
    coef = GroupCoefDisplay.from_estimator(model, factor="state:cafe", effects="x0")
    order = coef.coef["x0"].sort_values().index
    joined = [f"{state}:{cafe}" for state, cafe in order]
    assert [t.get_text() for t in coef.axes_[0].get_yticklabels()] == joined
    lines = FittedLinesDisplay.from_estimator(model, X, y, factor="state:cafe", max_groups=2)
    assert lines.labels == [f"state:cafe {label}" for label in (joined[0], joined[-1])]
    long = X.assign(cafe=X["cafe"].map("a very long label {}".format))
    other = short_fit(long, y, [("state", "cafe")])
    (label,) = FittedLinesDisplay.from_estimator(other, long, y, max_groups=1).labels
    assert re.fullmatch(r"state_\d:a v…long label \d", label)


@pytest.mark.parametrize(
    ("label", "printed"),
    [
        (lambda s: s.astype(int), "Subject 335"),
        (lambda s: s.radd("a very long label, number "), "Subject a very long…, number 335"),
        (lambda s: pd.Timestamp(2020, 1, 1) + pd.to_timedelta(s.astype(int), "D"), "2020-12-01"),
    ],
    ids=["int", "long", "date"],
)
def test_labels_are_printed_short(sleepstudy, label, printed):
    X, y = sleepstudy
    X = X.assign(Subject=label(X["Subject"]))
    model = short_fit(X, y, "Subject")
    lowest = FittedLinesDisplay.from_estimator(model, X, y).axes_[0].get_title(loc="left")
    assert lowest.removeprefix("Subject ") == printed.removeprefix("Subject ")
    ticks = GroupCoefDisplay.from_estimator(model).axes_[1].get_yticklabels()
    assert ticks[0].get_text() == printed.removeprefix("Subject ")
