"""Scores of a fit on its own rows and groups, each left out in turn."""

from __future__ import annotations

from sklearn.utils.validation import check_is_fitted

from skhier.posterior.elpd import Elpd
from skhier.posterior.fitted import Fitted

__all__ = ["Scores"]


class Scores:
    """Scores of an estimator whose ``_fitted`` is a :class:`~skhier.posterior.fitted.Fitted`."""

    _fitted: Fitted

    def loo(self, conditional: bool = False) -> Elpd:
        """Leave-one-out expected log predictive density: how well new rows are predicted.

        Group effects and coefficients are integrated out in closed form; only the few variance
        parameters are averaged over, with Pareto-smoothed weights.

        Parameters
        ----------
        conditional : bool
            True: from the log likelihood given draws of group effects and coefficients instead, as
            packages compute it that know no closed form. Its weights are less reliable.

        Returns
        -------
        Elpd
            ``elpd``, ``se``, ``p`` and ``pointwise``, a row of the data each.

        Raises
        ------
        ValueError
            The rows are not there (an estimator out of a pickle, or fitted to statistics), y is
            constant, ``sample_weight`` had fractions, or a coefficient has no proper distribution
            without some row.

        Notes
        -----
        What is left out is a row's y. Its predictors stay as they are, and so do the level means of
        ``group_means``, to which the row itself belongs.

        References
        ----------
        Vehtari, Gelman and Gabry (2017), Stat. Comput. 27. Sundararajan and Keerthi (2001),
        Neural Comput. 13.
        """
        fit = self._scored("loo")
        if fit.training is None:
            raise ValueError(
                "loo needs the rows of fit, which pickles, copies and statistics do not hold: call "
                "it where the model was fitted to rows, or fit again; logo() works without."
            )
        return fit.loo(conditional)

    def logo(self, factor: str | None = None) -> Elpd:
        """Leave-one-group-out expected log predictive density: how well new groups are predicted.

        Parameters
        ----------
        factor : str or None
            The grouping factor's name; None: the only one.

        Returns
        -------
        Elpd
            ``pointwise`` has a row a level: the joint log density of all its rows given all
            others'.

        Raises
        ------
        ValueError
            y is constant; no factor, several or an unknown one; fewer than two levels; or a
            coefficient that, without the rows of some level, has no proper distribution.

        Notes
        -----
        Needs no rows, so that it works after a pickle too.
        """
        check_is_fitted(self)
        names = [of_design.name for of_design in self._fitted.design.factors]
        if factor is not None:
            self._fitted.index_of(factor)
        if not names:
            raise ValueError(
                "logo leaves one group out at a time, and this fit has none: groups=None is not a "
                "grouping factor. Use loo()."
            )
        if len(names) > 1:
            raise ValueError(
                f"logo is for one grouping factor, and this fit has {', '.join(map(repr, names))}. "
                "Cross-validate instead, with GroupKFold or LeaveOneGroupOut and the column of the "
                "factor."
            )
        fit = self._scored("logo")
        if len(fit.design.factors[0].levels.labels) < 2:
            raise ValueError("logo leaves one level out at a time and needs two or more.")
        return fit.logo()

    def _scored(self, method: str) -> Fitted:
        """The fit, if there is something to score."""
        check_is_fitted(self)
        if self._fitted.engine == "constant":
            raise ValueError(f"{method} has nothing to score: y is constant.")
        return self._fitted
