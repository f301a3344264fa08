"""A user's keywords take the place of the displays' own."""

import matplotlib.pyplot as plt
import pytest
from displays import from_estimator
from matplotlib.quiver import Quiver

from skhier.plotting import (
    FittedLinesDisplay,
    GroupCoefDisplay,
    PosteriorPredictiveDisplay,
    PredictiveCalibrationDisplay,
    ShrinkageDisplay,
    VarianceSharesDisplay,
)

# keywords of an artist that skhier sets too, by each name of theirs: property -> names, value
LINE = {
    "linewidth": (("lw", "linewidth"), 7.5),
    "color": (("c", "color"), "C3"),
    "linestyle": (("ls", "linestyle"), ":"),
}
INTERVALS = {
    "linewidth": ((*LINE["linewidth"][0], "linewidths"), 7.5),
    "color": ((*LINE["color"][0], "colors"), "C3"),
    "linestyle": ((*LINE["linestyle"][0], "linestyles", "dashes"), ":"),
}
ARROWS = {
    "facecolor": (("c", "color", "fc", "facecolor", "facecolors"), "C3"),
    "linewidth": (("lw", "linewidth", "linewidths"), 7.5),
    "scale": (("scale",), 2),
    "scale_units": (("scale_units",), "x"),
    "angles": (("angles",), "uv"),
}
STYLED = {
    GroupCoefDisplay: ("90% interval", INTERVALS),
    VarianceSharesDisplay: ("90% interval", INTERVALS),
    ShrinkageDisplay: (None, ARROWS),
    FittedLinesDisplay: ("the group's line", LINE),
    PosteriorPredictiveDisplay: ("observed", LINE),
    PredictiveCalibrationDisplay: ("observed (180 rows)", LINE),
}
ALIASES = [
    (display, prop, name)
    for display, (_, props) in STYLED.items()
    for prop, (names, _) in props.items()
    for name in names
]


def styled_artist(display, made):
    label, _ = STYLED[display]
    axis = made.figure_.axes[0]
    return next(
        artist
        for artist in (*axis.lines, *axis.collections)
        if (isinstance(artist, Quiver) if label is None else artist.get_label() == label)
    )


@pytest.mark.parametrize(("display", "prop", "name"), ALIASES)
def test_a_users_style_takes_the_place_of_ours(sleepstudy_fit, sleepstudy, display, prop, name):
    value = STYLED[display][1][prop][1]
    made = from_estimator(display, sleepstudy_fit, *sleepstudy, **{name: value})
    artist = styled_artist(display, made)
    if prop in ("scale", "scale_units", "angles"):
        assert getattr(artist, prop) == value
        return
    found = plt.getp(artist, prop)
    artist.set(**{prop: value})
    assert repr(found) == repr(plt.getp(artist, prop))


@pytest.mark.parametrize("display", STYLED)
def test_a_style_by_two_names_is_an_error(sleepstudy_fit, sleepstudy, display):
    for style in ({"lw": 1, "linewidth": 2}, {"c": "C1", "color": "C2"}):
        with pytest.raises(TypeError, match="Got both"):
            from_estimator(display, sleepstudy_fit, *sleepstudy, **style)
