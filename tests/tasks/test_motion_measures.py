"""Measures of what moves, on answers that are known: each property follows its own, and pose leaks into the shape."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import linear_shape
from sfm_jax.tasks.cycle_report import _matrix
from sfm_jax.tasks.motion_measures import FRAMES, PROPERTIES, measure_disentanglement, measure_jitter, measured

LEAK = 0.02  # mm of the whole shape for each degree of yaw
SHY = 0.5  # of the true expression, and of the true shape, is said


class Known:
    """Stands in for an Examination whose network says the truth of a scene, but for LEAK and SHY."""

    def __init__(self, follows=0.0, **conditions):
        """follows: how far the expression that is said follows the yaw."""
        self.follows = follows
        model = toy.model(subdivisions=2)
        rng = np.random.default_rng(0)
        half = np.full(5, 0.5, np.float32)
        people = Population(rng.standard_normal((5, len(model.identity_basis))).astype(np.float32),
                            rng.standard_normal((5, len(model.albedo_basis))).astype(np.float32), half, half,
                            np.full((5, 3), 1 / 3, np.float32))
        self.photos = SyntheticPhotos(model, people, 16, Conditions(**conditions), 3)
        self.task = types.SimpleNamespace(model=model, weights=np.full(len(model.mean), 1 / len(model.mean)))

    def scenes(self, ids):
        return self.photos.scenes(jnp.asarray(ids, jnp.int32))

    def encode(self, scenes):
        model = self.task.model
        shape = np.array(linear_shape(model.mean, model.identity_basis, SHY * scenes.identity))
        shape[..., 0] += LEAK * np.asarray(scenes.pose)[:, :1]
        rotation = np.asarray(rotation_from_euler(scenes.pose))
        off = np.asarray(rotation_from_euler(jnp.array([0.0, 0.0, 1.0])))
        wrong = np.where((np.arange(len(shape)) % 2 == 1)[:, None, None], off @ rotation, rotation)
        points = np.asarray(jax.vmap(model.landmarks)(jnp.asarray(shape)))[..., :2] + 100.0
        expression = SHY * np.asarray(scenes.expression) + self.follows * np.asarray(scenes.pose)[:, :1]
        return {"neutral": shape, "expression": expression, "rotation": wrong, "true_rotation": rotation,
                "albedo": np.asarray(scenes.albedo), "light": np.asarray(scenes.light), "landmarks": points,
                "true_landmarks": points}


@pytest.fixture(scope="module")
def known():
    return Known()


def test_only_the_leak_is_off_the_diagonal(known):
    numbers = measure_disentanglement(known)
    leak = numbers["disentanglement/pose_moves_identity"]
    others = [value for name, value in numbers.items() if "_moves_" in name and name != (
        "disentanglement/pose_moves_identity")]
    assert leak > 0.05 and max(others) < 1e-3
    assert numbers["disentanglement/off_diagonal"] == pytest.approx(leak / 20, rel=1e-2)
    yaw = np.asarray(known.scenes(np.arange(101)).pose)[:, 0]
    model, people = known.task.model, np.asarray(known.photos.people.identity)
    offsets = np.tensordot(people - np.roll(people, -1, 0), np.asarray(model.identity_basis), 1)
    moved = SHY * np.linalg.norm(offsets, axis=-1).mean()  # a hundred photos: twenty of each person
    assert leak == pytest.approx(LEAK * np.abs(np.diff(yaw)).mean() / moved, rel=1e-3)


def test_response_is_relative_to_the_truth(known):
    numbers = measure_disentanglement(known)
    expected = {"identity": SHY, "expression": SHY, "pose": 1.0, "albedo": 1.0, "light": 1.0}
    for name in PROPERTIES:
        assert numbers[f"disentanglement/{name}_response"] == pytest.approx(expected[name], rel=0.02), name


def test_jitter_by_hand(known):
    """The rotation is off by a degree in every second frame; the shape moves with the yaw alone."""
    numbers = measure_jitter(known)
    assert numbers["clips/jitter_degrees"] == pytest.approx(1, rel=1e-3)
    assert numbers["clips/nme_percent"] == pytest.approx(0, abs=1e-5)
    keys = np.asarray(known.scenes(np.arange(4 * 20)).pose)[:, 0].reshape(20, 4)
    # Each stretch between two keys is passed without turning back, three stretches in FRAMES - 1 steps.
    travelled = np.abs(np.diff(keys, axis=1)).sum(1) / (FRAMES - 1)
    assert numbers["clips/jitter_mm"] == pytest.approx(LEAK * travelled.mean(), rel=1e-3)


def test_what_the_photos_do_not_vary_is_left_out():
    """As with data.conditions.expression=0: of an answer's expression that moves all the same nothing can be said."""
    numbers = measure_disentanglement(Known(follows=0.1, expression=0.0))
    assert all(np.isfinite(value) for value in numbers.values())
    assert measured(numbers) == ["identity", "pose", "albedo", "light"]
    assert not any("expression" in name for name in numbers)
    texts, captions = [], []
    _matrix(types.SimpleNamespace(section=lambda title, text: texts.append(text),
                                  figure=lambda figure, caption: captions.append(caption)), numbers)
    assert "do not vary it: expression." in texts[0]
    assert f"{numbers['disentanglement/off_diagonal']:.3f}" in captions[0]
    _matrix(types.SimpleNamespace(section=lambda title, text: texts.append(text), figure=lambda *_: None),
            {f"disentanglement/{row}_moves_{column}": 0.0 for row in PROPERTIES for column in PROPERTIES
             if (row, column) != ("pose", "light")} | {f"disentanglement/{name}_response": 1.0 for name in PROPERTIES})
    assert "Left out" not in texts[1]  # of all five, one entry being infinite
