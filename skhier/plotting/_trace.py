"""Trace and rank plots of the posterior draws, by ArviZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skhier.plotting._fit import draws_by_name, fitted_model
from skhier.plotting._style import pyplot
from skhier.utils.diagnostics import is_constant
from skhier.utils.validation import check_choice

__all__ = ["TraceDisplay"]


class TraceDisplay:
    """Trace or rank plots of the posterior draws, by ArviZ.

    Answers: have the chains mixed? Independent draws (``diagnostics_["sampler"]`` is
    ``"importance"``) are no chains: their traces are noise, and ranks uniform, by construction.

    Parameters
    ----------
    draws : dict of str to array of shape (n_chains, n_draws)
        Parameters under their names in ``summary()``.

    Attributes
    ----------
    axes_ : array of Axes
        In ArviZ's order.
    figure_ : Figure

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16(2), sec. 5.
    """

    def __init__(self, *, draws: Mapping[str, np.ndarray]):
        self.draws = draws

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        parameters: str | Sequence[str] | None = None,
        kind: str = "trace",
        **kwargs: Any,
    ) -> TraceDisplay:
        """Take the draws of the parameters that vary, and draw.

        Parameters
        ----------
        estimator : HierarchicalSlopesRegressor, or Pipeline or search that ends in one
            Fitted.
        parameters : str, list of str or None
            Names as in ``summary(group_effects=True)``, such as ``"coef[Days]"``; None: all but
            the group effects.
        kind, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        TraceDisplay

        Raises
        ------
        ValueError
            No such parameter, or none that varies.
        sklearn.exceptions.NotFittedError
        """
        model, _ = fitted_model(estimator)
        wanted = [parameters] if isinstance(parameters, str) else parameters
        known = draws_by_name(model, group_effects=False)
        if wanted is not None and not set(wanted) <= set(known):
            known = draws_by_name(model, group_effects=True)
        for name in wanted or ():
            if name not in known:
                shown = ", ".join(map(repr, list(known)[:20]))
                raise ValueError(f"{name!r} is not a parameter of this fit. Parameters: {shown}.")
        draws = {name: known[name] for name in (known if wanted is None else wanted)}
        draws = {name: values for name, values in draws.items() if not is_constant(values)}
        if not draws:
            raise ValueError("None of these parameters varies: there is nothing to draw.")
        return cls(draws=draws).plot(kind=kind, **kwargs)

    def plot(self, *, kind: str = "trace", **kwargs: Any) -> TraceDisplay:
        """Draw a row, or a panel, per parameter in a new figure.

        Parameters
        ----------
        kind : {"trace", "rank"}
            Densities and traces of the chains; or the distribution of each chain's ranks among
            all, which is uniform if the chains agree.
        **kwargs
            Of ArviZ's function: ``plot_trace`` or ``plot_rank`` before ArviZ 1.0,
            ``plot_trace_dist`` or ``plot_rank`` after.

        Returns
        -------
        TraceDisplay
            The display itself.
        """
        check_choice("kind", kind, ("trace", "rank"))
        pyplot()  # or an error that says what to install
        import arviz as az

        draws = {
            name if len(name) < 20 else name.replace("[", "\n["): values
            for name, values in self.draws.items()
        }
        if hasattr(az, "plot_trace_dist"):  # since ArviZ 1.0
            data = az.from_dict({"posterior": draws})
            draw = az.plot_trace_dist if kind == "trace" else az.plot_rank
            figure = draw(data, backend="matplotlib", **kwargs).viz["figure"].item()
        else:
            data = az.from_dict(posterior=draws)
            draw = az.plot_trace if kind == "trace" else az.plot_rank
            figure = np.ravel(draw(data, backend="matplotlib", **kwargs))[0].figure
        rows = figure.axes[0].get_gridspec().nrows
        figure.set_size_inches(10.0, 1.0 + (1.5 if kind == "trace" else 2.0) * rows)
        figure.set_layout_engine("constrained")
        for axis in figure.axes:
            axis.tick_params(labelsize="small")
            for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
                text.set_size("small")
        self.axes_, self.figure_ = np.array(figure.axes), figure
        return self
