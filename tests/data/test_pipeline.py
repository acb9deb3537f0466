"""The order of samples: complete epochs, repeatable, and independent of the number of processes."""

import jax
import numpy as np
import pytest

from sfm_jax.data.pipeline import Zipped, batches
from sfm_jax.errors import BadInput


def load(indices, epochs):
    return {"id": indices, "epoch": epochs}


def test_every_epoch_sees_every_sample_once():
    data = batches(10, 4, 0, load)
    seen = np.concatenate([data[k]["id"] for k in range(10)])  # 40 samples are 4 epochs
    epoch = np.concatenate([data[k]["epoch"] for k in range(10)])
    for number in range(4):
        np.testing.assert_array_equal(np.sort(seen[epoch == number]), np.arange(10))
    assert not np.array_equal(seen[:10], seen[10:20])  # shuffled anew


def test_batch_depends_on_seed_and_number_alone():
    np.testing.assert_array_equal(batches(100, 8, 5, load)[77]["id"], batches(100, 8, 5, load)[77]["id"])
    assert not np.array_equal(batches(100, 8, 5, load)[77]["id"], batches(100, 8, 6, load)[77]["id"])


def test_processes_share_the_batch_that_one_would_see(monkeypatch):
    whole = batches(50, 12, 1, load)[9]
    parts = []
    for index in range(3):
        monkeypatch.setattr(jax, "process_count", lambda: 3)
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(batches(50, 4, 1, load)[9])
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_zipped_parts_keep_their_names():
    data = Zipped({"a": batches(10, 2, 0, load), "b": batches(6, 3, 1, load)})
    assert len(data[3]["a"]["id"]) == 2 and len(data[3]["b"]["id"]) == 3


def test_no_samples_is_an_error():
    with pytest.raises(BadInput, match="^data: found 0 samples, expected at least 1$"):
        batches(0, 4, 0, load)
