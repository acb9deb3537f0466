"""Random numbers of many keys at once are those of each key by itself."""

import jax
import numpy as np
import pytest
from scipy import stats

from sfm_jax.data.numbers import between, rows


@pytest.mark.parametrize("draw", [jax.random.uniform, jax.random.normal, jax.random.exponential])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_rows_begin_with_what_a_key_draws_alone(draw, shape):
    one, two = jax.random.split(jax.random.key(4))
    drawn = rows(draw, 11, first=one, second=two)
    assert set(drawn) == {"first", "second"} and drawn["first"].shape == (11,)
    for name, key in (("first", one), ("second", two)):
        alone = np.asarray(draw(key, shape))
        np.testing.assert_allclose(np.asarray(drawn[name])[:alone.size], alone.ravel(), rtol=1e-6)


def test_between_is_uniform():
    uniform = rows(jax.random.uniform, 4000, it=jax.random.key(1))["it"]
    assert stats.kstest(between(uniform, -3.0, 5.0), stats.uniform(-3, 8).cdf).pvalue > 0.01
