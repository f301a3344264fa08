"""Two varying slopes, an interaction and a categorical column, through the example's Pipeline."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def schools(example, fit):
    namespace = example("plot_pipeline")
    X, y, _ = namespace["simulate"]()
    pipeline = namespace["pipeline"]()
    pipeline[-1].set_params(n_draws=6000)
    return fit(pipeline, X, y), X


def test_pipeline_matches_exact_posterior(schools, reference, assert_agrees):
    assert_agrees(schools[0][-1], reference("pipeline")["parameters"])


def test_pipeline_predicts_from_the_plain_table(schools):
    pipeline, X = schools
    model, rows = pipeline[-1], X.head(7)
    coef = model.group_coef_["school"].loc[rows["school"]].set_axis(rows.index)
    shared = dict(zip(model.coef_names_, model.coef_, strict=True)) | {"method_lecture": 0.0}
    expected = coef["intercept"] + (coef[["hours", "level"]] * rows[["hours", "level"]]).sum(axis=1)
    expected += shared["hours level"] * rows["hours"] * rows["level"]
    expected += [shared[f"method_{method}"] for method in rows["method"]]
    np.testing.assert_allclose(pipeline.predict(rows), expected, rtol=1e-9)
