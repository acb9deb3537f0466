"""A tiny morphable model for tests: an icosphere with random smooth bases, mirror-symmetric in its connectivity."""

import numpy as np
import trimesh

from sfm_jax.morphable.model import MorphableModel, Topology


def model(seed=0, subdivisions=1, identities=6, expressions=3) -> MorphableModel:
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=80.0)
    vertices, triangles = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    mirrored = vertices * np.array([-1, 1, 1], np.float32)
    symmetry = np.argmin(np.sum((mirrored[:, None] - vertices[None]) ** 2, axis=-1), axis=1).astype(np.int32)
    count = len(vertices)
    landmarks = (np.arange(68) % count).astype(np.int32)
    topology = Topology(
        triangles=triangles, uv=(vertices[:, :2] / 160 + 0.5), uv_triangles=triangles, landmarks=landmarks,
        contour_lines=np.repeat(landmarks[:17, None], 3, axis=1), region_names=("face", "skin"),
        regions=np.ones((2, count), np.float32), symmetry=symmetry)

    def basis(size, scale):
        waves = rng.normal(size=(size, 3, 3)) / 80.0
        return (scale * np.sin(np.einsum("vc,kcd->kvd", vertices, waves))).astype(np.float32)

    return MorphableModel(
        mean=vertices, identity_basis=basis(identities, 4.0), identity_sigma=np.ones(identities, np.float32),
        expression_basis=basis(expressions, 3.0), albedo_mean=np.full((count, 3), -1.0, np.float32),
        albedo_basis=basis(2, 0.2), topology=topology,
        expression_names=tuple(f"unit{i}" for i in range(expressions)), name="toy", licence="CC0-1.0", source="toy")
