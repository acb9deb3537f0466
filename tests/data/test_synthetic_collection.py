"""Synthetic photos written to shards come back as they were made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import export_synthetic
from sfm_jax.data.people import disjoint_people
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.data.scene import Conditions
from sfm_jax.data.shards import Packing, build_shards
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.data.synthetic_collection import SyntheticCollection
from sfm_jax.morphable.default import load_default, load_population


def test_exported_people_are_never_those_held_out(monkeypatch, tmp_path):
    """Also where all are asked that may be; people held out by any run are none of them."""
    seen = {}

    def keep(collection, folder, packing):
        seen["people"], seen["fingerprint"] = collection._photos.people.identity, collection.fingerprint()
        return {"photos": 0, "persons": 0}

    monkeypatch.setattr(export_synthetic, "build_shards", keep)
    monkeypatch.setattr(export_synthetic, "enable_compilation_cache", lambda: None)
    heldout = {row.tobytes() for row in disjoint_people(load_default(0), 2000, 600, 3)[1].identity}
    for persons in (1000, 5400):
        export_synthetic.main([str(tmp_path), f"--persons={persons}", "--photos=10"])
        exported = {row.tobytes() for row in seen["people"]}
        assert len(exported) == persons and not exported & heldout
    others = SyntheticPhotos(load_default(0), load_population()[np.arange(5400)], 112, Conditions(), 0)
    assert SyntheticCollection(others, 10).fingerprint() != seen["fingerprint"]
    with pytest.raises(SystemExit) as left:
        export_synthetic.main([str(tmp_path), "--persons=5401"])
    assert left.value.code == 2


def test_round_trip_through_shards(tmp_path):
    source = SyntheticPhotos(load_default(0), load_population()[np.arange(3)], 32, Conditions(), seed=1)
    manifest = build_shards(SyntheticCollection(source, 10), tmp_path / "out", Packing(size=0, photos_per_shard=4))
    assert (manifest["photos"], manifest["persons"], manifest["bad"]) == (10, 3, {})
    truth = jax.device_get(jax.jit(source.__call__)(jnp.arange(10)))
    read = open_photos(f"shards:{tmp_path / 'out'}")
    assert len(read) == 10 and read.persons == 3
    raws = [read.raw(index) for index in range(10)]
    np.testing.assert_array_equal([raw.person for raw in raws], np.arange(10) % 3)
    for name in ("landmarks", "rotation", "identity", "expression"):
        np.testing.assert_allclose(np.stack([getattr(raw, name) for raw in raws]), truth[name], atol=1e-3)
    record = Photos(read, (120, 51), 32, augmentation=None).load(np.arange(10))
    assert record["codes_mask"].all() and record["landmark_mask"].all() and record["rotation_mask"].all()
    # Cropped anew around the landmarks: those span the crop, as its convention says.
    extent = (record["landmarks"].max(1) - record["landmarks"].min(1)).max(1)
    np.testing.assert_allclose(np.sqrt(2) * extent, 32, rtol=1e-3)
