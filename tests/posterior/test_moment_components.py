"""How many components stand behind the moments of group effects."""

import numpy as np
import pytest
from runs import budget

from skhier import HierarchicalSlopesRegressor
from skhier.datasets import make_hierarchical
from skhier.kernels.normal.moments import group_moments
from skhier.posterior.moment_components import moment_components

ERROR = 0.05  # posterior sds
N_ERRORS = 5  # of the worst of 600 means and sds


@pytest.fixture(scope="module")
def posterior():
    """Of 300 groups, and its components."""
    table = make_hierarchical(3000, 1, groups=300, slopes="all", group_scale=0.7, random_state=0)
    model = HierarchicalSlopesRegressor("group", random_state=0).fit(table.data, table.target)
    return model._fitted.posterior, model._fitted.components


def test_as_few_are_taken_as_settle_every_level(posterior):
    """The moments of the few are those of all within the error asked for."""
    posterior, components = posterior
    limits = budget(group_entries=1, moment_error=ERROR).memory
    few = moment_components(posterior.layout, components, limits)
    assert len(few.weights) < limits.moment_components[0]
    (moments,), (of_all,) = (group_moments(posterior.layout, each) for each in (few, components))
    sd, exact_sd = (np.sqrt(np.einsum("gii->gi", each.cov)) for each in (moments, of_all))
    assert (np.abs(moments.mean - of_all.mean) < N_ERRORS * ERROR * exact_sd).all()
    assert (np.abs(sd - exact_sd) < N_ERRORS * ERROR * exact_sd).all()


def test_a_smaller_error_takes_more(posterior):
    posterior, components = posterior
    sizes = [
        len(moment_components(posterior.layout, components, limits.memory).weights)
        for limits in (budget(group_entries=1, moment_error=error) for error in (0.1, 0.05, 1e-6))
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] == budget().memory.moment_components[0]


def test_order_of_the_pilots_components_does_not_matter(posterior):
    posterior, components = posterior
    limits = budget(group_entries=1, moment_error=ERROR).memory
    sizes = {
        len(moment_components(posterior.layout, components.take(order), limits).weights)
        for order in (slice(None), np.r_[np.arange(16)[::-1], 16 : len(components.weights)])
    }
    assert len(sizes) == 1
