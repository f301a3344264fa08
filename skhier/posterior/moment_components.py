"""How many components stand behind the moments of group effects."""

import numpy as np

from skhier.kernels.normal.eliminate import Layout
from skhier.kernels.normal.moments import n_settled
from skhier.kernels.records import Components
from skhier.statistics.plan import dense_size
from skhier.utils.budget import MemoryBudget

__all__ = ["moment_components"]


def moment_components(layout: Layout, components: Components, budget: MemoryBudget) -> Components:
    """The first of the components, fewer where each is work and theta varies little.

    With so many groups that even the fewest are work, as few as settle every level's mean and sd
    by a pilot run: there theta is all but known.
    """
    entries = sum(of_factor.zz.size for of_factor in layout.stats.factors)
    dense = dense_size(layout.stats, layout.plan)
    fewest, most = budget.moment_components
    few = int(np.clip(budget.moment_work // max(dense, 1) ** 3, budget.fewest_of_crossed, fewest))
    n = int(np.clip(budget.group_entries // (entries + dense**2), few, most))
    if fewest * entries <= budget.group_entries:
        return components.first(n)
    pilot = components.first(budget.pilot_components)
    enough = n_settled(layout, pilot, budget.moment_error, budget)
    size = 2 * budget.pilot_components
    while size < min(n, enough):  # in steps, for rounding moves the pilot's word
        size *= 2
    return components.first(min(n, size))
