import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.tasks.batched import in_batches


@pytest.mark.parametrize("count", [1, 3, 7])
def test_every_row_comes_once_in_batches_of_one_size(count):
    sizes = set()

    def answer(rows):
        sizes.add(len(rows))
        return {"row": jnp.asarray(rows), "twice": 2 * jnp.asarray(rows)[:, None]}

    found = in_batches(answer, count, 3)
    np.testing.assert_array_equal(found["row"], np.arange(count))
    np.testing.assert_array_equal(found["twice"], 2 * np.arange(count)[:, None])
    assert sizes == {3} and isinstance(found["row"], np.ndarray)
