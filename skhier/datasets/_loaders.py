"""The two tables that come with the package, as scikit-learn's loaders return theirs.

Where each table comes from is written in ``data/README.md``, beside it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.utils import Bunch

__all__ = ["load_cafes", "load_sleepstudy"]


class _Table(NamedTuple):
    filename: str
    dtypes: dict[str, str]
    features: list[str]
    target: str
    groups: str
    description: str


def load_sleepstudy(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the sleep deprivation study: reaction times of 18 subjects on ten days.

    The subjects were allowed three hours in bed a night. Their reaction times start at different
    values and grow at different rates: a varying intercept and a varying slope.

    ==============  ==========================================
    Rows            180, ten per subject
    Features        ``Days`` (0 to 9), ``Subject`` (18 labels)
    Target          ``Reaction``, ms, 194.3 to 466.4
    Groups          ``Subject``
    ==============  ==========================================

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects, in which the columns keep their names and types.

    Returns
    -------
    data : sklearn.utils.Bunch
        A dictionary whose keys are also attributes:

        - ``data`` (180, 2): ``Days`` (integers) and ``Subject`` (strings such as ``"308"``). A
          DataFrame if `as_frame`, otherwise an array of dtype object, because the types are mixed.
        - ``target`` (180,): a Series named ``Reaction`` if `as_frame`, otherwise an array.
        - ``frame`` (180, 3): data and target together if `as_frame`, otherwise None.
        - ``feature_names``, ``target_names``: lists of the columns' names.
        - ``groups``: ``"Subject"``, the grouping column. An array has no names; there the
          grouping column is the last one (``groups=-1``).
        - ``DESCR``, ``filename``, ``data_module``: description and place of the table.
    (data, target) : tuple if `return_X_y`
        The first two of these.

    References
    ----------
    Belenky et al. (2003), J. Sleep Res. 12, 1-12.

    Examples
    --------
    >>> from skhier.datasets import load_sleepstudy
    >>> X, y = load_sleepstudy(return_X_y=True, as_frame=True)
    >>> X.shape, list(X.columns), y.name
    ((180, 2), ['Days', 'Subject'], 'Reaction')
    >>> print(round(y.mean(), 3))
    298.508
    """
    return _load(_SLEEPSTUDY, return_X_y, as_frame)


def load_cafes(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the simulated waiting times of 20 cafes, in the morning and in the afternoon.

    The textbook example of correlated varying slopes: where the morning wait is long, the
    afternoon saves more of it.

    ==============  ==========================================
    Rows            200: five mornings, five afternoons a cafe
    Features        ``afternoon`` (0, 1), ``cafe`` (0 to 19)
    Target          ``wait``, minutes, 0.58 to 6.64
    Groups          ``cafe``
    ==============  ==========================================

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects, in which the columns keep their names.

    Returns
    -------
    data : sklearn.utils.Bunch
        A dictionary whose keys are also attributes:

        - ``data`` (200, 2): ``afternoon`` and ``cafe``, both integers. A DataFrame if `as_frame`,
          otherwise an integer array.
        - ``target`` (200,): a Series named ``wait`` if `as_frame`, otherwise an array.
        - ``frame`` (200, 3): data and target together if `as_frame`, otherwise None.
        - ``feature_names``, ``target_names``: lists of the columns' names.
        - ``groups``: ``"cafe"``, the grouping column. An array has no names; there the grouping
          column is the last one (``groups=-1``).
        - ``DESCR``, ``filename``, ``data_module``: description and place of the table.
    (data, target) : tuple if `return_X_y`
        The first two of these.

    References
    ----------
    McElreath (2020), Statistical Rethinking, 2nd ed., sec. 14.1, whose model and parameters these
    are; the draws are not the book's.

    Examples
    --------
    >>> from skhier.datasets import load_cafes
    >>> cafes = load_cafes()
    >>> cafes.data.shape, cafes.feature_names, cafes.groups
    ((200, 2), ['afternoon', 'cafe'], 'cafe')
    """
    return _load(_CAFES, return_X_y, as_frame)


def _load(table: _Table, return_X_y: bool, as_frame: bool) -> Any:
    bunch = _bunch(table, _read(table), as_frame)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _read(table: _Table) -> pd.DataFrame:
    import pandas as pd

    with files("skhier.datasets").joinpath("data", table.filename).open(encoding="utf-8") as source:
        frame = pd.read_csv(source, dtype=table.dtypes)
    return frame[[*table.features, table.target]]


def _bunch(table: _Table, frame: pd.DataFrame, as_frame: bool) -> Bunch:
    from sklearn.utils import Bunch

    data, target = frame[table.features], frame[table.target]
    return Bunch(
        data=data if as_frame else data.to_numpy(copy=True),
        target=target if as_frame else target.to_numpy(copy=True),
        frame=frame if as_frame else None,
        feature_names=list(table.features),
        target_names=[table.target],
        groups=table.groups,
        DESCR=table.description,
        filename=table.filename,
        data_module="skhier.datasets.data",
    )


_SLEEPSTUDY = _Table(
    filename="sleepstudy.csv",
    dtypes={"Reaction": "float64", "Days": "int64", "Subject": "str"},
    features=["Days", "Subject"],
    target="Reaction",
    groups="Subject",
    description="""\
Sleep deprivation study
=======================

Average reaction time per day of 18 subjects who were allowed three hours in bed a night.

:Rows: 180, one per subject and day; nothing is missing
:Days: day of the study, 0 to 9. Days 0 and 1 were for training and day 2 was the baseline; sleep
    was restricted after day 2
:Subject: id of the subject, a label although it is written in digits
:Reaction: the target, average reaction time in milliseconds

Source: Belenky et al. (2003), Patterns of performance degradation and restoration during sleep
restriction and subsequent recovery: a sleep dose-response study, Journal of Sleep Research 12,
1-12. The numbers are measurements of that study.
""",
)

_CAFES = _Table(
    filename="cafes.csv",
    dtypes={"cafe": "int64", "afternoon": "int64", "wait": "float64"},
    features=["afternoon", "cafe"],
    target="wait",
    groups="cafe",
    description="""\
Waiting times in cafes (simulated)
==================================

Minutes until the coffee comes, in 20 cafes, five mornings and five afternoons each.

:Rows: 200; nothing is missing
:afternoon: 0 for a morning, 1 for an afternoon
:cafe: id of the cafe, 0 to 19
:wait: the target, minutes

Simulated for this package from the model of McElreath (2020), Statistical Rethinking, 2nd ed.,
section 14.1: mornings vary around 3.5 minutes with sd 1, the afternoons' differences around -1 with
sd 0.5, their correlation is -0.7 and the noise has sd 0.5.
""",
)
