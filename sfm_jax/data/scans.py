"""Registered 3D scans with person labels: synthesised from the population, or read from a folder of meshes.

A scan source is a finite, indexable collection. Person by person, scans are numbered 0 .. len(source) - 1;
`source.batch(indices)` makes the records, and the same index gives the same scan, to rounding, always.
A record (a dict of NumPy arrays, leading dimension B):

    vertices [B, V, 3] float32 mm   the scan, in correspondence with the model
    neutral  [B, V, 3] float32 mm   the person's reference shape: the clean neutral face where it is known,
                                    else the mean of the person's scans
    person   [B] int32              0 .. persons - 1
"""

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np

from sfm_jax.array_files import integers, numbers, one_line, read_npz
from sfm_jax.data.photo_sets import digest
from sfm_jax.morphable.formats.assemble import UNITS
from sfm_jax.morphable.formats.obj import read_mesh
from sfm_jax.morphable.model import MorphableModel

# Deformation fields and noise are of the scanner, the same for every source: only their mixture is the scan's own.
CAPTURE_SEED = 20240
HOLES_MEMORY = 200e6  # bytes of holes that are remembered
MESH_SUFFIXES = (".obj", ".ply", ".npz")
SIZES = (0.4, 2.5)  # of a scan, in sizes of the model: children and adults, but no other unit


class ScanSource(Protocol):
    """What the sphere_basis task asks of its data."""

    persons: int

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...

    def neutral_shapes(self) -> np.ndarray:
        """The reference shape of every person, [persons, V, 3] float32 mm."""


@dataclasses.dataclass(frozen=True)
class Capture:
    """How a synthetic scan differs from the person's clean neutral face. Lengths in mm, one standard deviation.

    expression: mean activation of an active expression unit (about six are active a scan); noise: white, per
    coordinate; deformation: smooth field of 60-250 mm wavelength (scanner calibration, hair, posture); weight:
    swelling along the normals of cheeks, chin and neck; rotation_degrees, translation: what registration left;
    missing: number of holes, each a ball of missing_radius, filled by the mean face.
    """

    expression: float = 0.35
    noise: float = 0.6
    deformation: float = 1.5
    weight: float = 2.0
    rotation_degrees: float = 1.0
    translation: float = 1.0
    missing: int = 3
    missing_radius: float = 22.0


class PopulationScans:
    """Scans of people of a model, such as the embedded population: `scans_per_person` captures of each person,
    different in every way a scanner session differs (see Capture). `people` [P, K] are identity codes of `model`."""

    def __init__(self, model: MorphableModel, people: np.ndarray, scans_per_person: int, capture: Capture, seed: int):
        self.persons = len(people)
        self._scans_per_person, self._capture, self._seed = scans_per_person, capture, seed
        self._people = np.asarray(people, np.float32)
        self._mean = np.asarray(model.mean)
        self._identity = np.asarray(model.identity_basis).reshape(self._people.shape[1], -1)
        bank = np.random.default_rng(CAPTURE_SEED)
        # White noise is drawn once; each scan reads it from an offset of its own: 20 times faster, still white.
        self._offsets = max(self._mean.size, 2**16)
        self._noise = np.float32(capture.noise) * bank.standard_normal(self._mean.size + self._offsets, np.float32)
        expression = np.asarray(model.expression_basis).reshape(len(model.expression_basis), self._mean.size)
        fields, swelling = _smooth_fields(bank, self._mean, count=32), _swelling_field(model).reshape(1, -1)
        self._counts, self._bounds = (len(expression), len(fields)), model.expression_bounds
        self._statistical = model.expression_kind == "statistical"
        self._additive = np.concatenate([expression, fields, swelling])
        self._holes, self._holes_memory = {}, 0

    def __len__(self):
        return self.persons * self._scans_per_person

    def neutral_shapes(self):
        return (self._mean.ravel() + self._people @ self._identity).reshape(self.persons, -1, 3)

    def batch(self, indices):
        indices = np.asarray(indices)
        person = (indices // self._scans_per_person).astype(np.int32)
        draws = [self._draw(int(index)) for index in indices]
        neutral = self._mean.ravel() + self._people[person] @ self._identity
        # Expression, deformation and weight are one matrix product.
        vertices = neutral + np.stack([draw["additive"] for draw in draws]) @ self._additive
        vertices, neutral = vertices.reshape(len(indices), -1, 3), neutral.reshape(len(indices), -1, 3)
        for shape, draw in zip(vertices, draws, strict=True):
            self._disturb(shape, draw)
        return {"vertices": vertices, "neutral": neutral, "person": person}

    def _draw(self, index):
        """All random numbers of one scan, from its index alone."""
        c, (expressions, fields) = self._capture, self._counts
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 0, index]))
        if self._statistical:
            usual = c.expression / Capture.expression
            expression = np.clip(usual * rng.standard_normal(expressions), *self._bounds)
        else:
            active = rng.random(expressions) < 6.0 / max(expressions, 1)
            expression = active * np.minimum(rng.gamma(2.0, c.expression / 2.0, expressions), 1.0)
        return {
            "additive": np.concatenate([expression, c.deformation * rng.standard_normal(fields),
                                        c.weight * rng.standard_normal(1)]).astype(np.float32),
            "rotation": np.deg2rad(c.rotation_degrees) * rng.standard_normal(3),
            "translation": (c.translation * rng.standard_normal(3)).astype(np.float32),
            "noise_offset": int(rng.integers(self._offsets)),
            "holes": rng.integers(len(self._mean), size=c.missing),
        }

    def _disturb(self, shape, draw):
        """Rigid error, noise and holes, in place on one scan [V, 3]."""
        x, y, z = draw["rotation"]
        turn = np.array([[1.0, -z, y], [z, 1.0, -x], [-y, x, 1.0]], np.float32)  # first order: about a degree
        # All flat: NumPy takes ten times as long for rows of three.
        flat, offset = shape.reshape(-1), draw["noise_offset"]
        np.add((shape @ turn.T).reshape(-1), np.tile(draw["translation"], len(shape)), out=flat)
        flat += self._noise[offset:offset + flat.size]
        for centre in draw["holes"]:
            near, blend, mean = self._hole(int(centre))
            own = flat.take(near)
            flat[near] = own + blend * (mean - own)

    def _hole(self, centre):
        """The coordinates around a vertex, of every scan alike: where in the flat shape [3n], how much of the mean face
        takes their place [3n], and that face [3n]."""
        if centre in self._holes:
            return self._holes[centre]
        away, radius = self._mean - self._mean[centre], self._capture.missing_radius
        squared = np.einsum("vc,vc->v", away, away)
        near = np.flatnonzero(squared < (1.5 * radius) ** 2)
        blend = np.repeat(np.minimum(1.5 - np.sqrt(squared[near]) / radius, 1.0), 3)
        hole = (3 * near[:, None] + np.arange(3)).reshape(-1), blend, self._mean[near].reshape(-1)
        memory = sum(array.nbytes for array in hole)
        if self._holes_memory + memory < HOLES_MEMORY:
            self._holes[centre] = hole
            self._holes_memory += memory
        return hole


def _smooth_fields(rng, mean, count):
    """[count, V * 3] random vector fields, sums of plane waves of 60-250 mm wavelength; unit variance in total."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wave = direction * (2.0 * np.pi / rng.uniform(60.0, 250.0, (count, 1)))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 1))
    axis = rng.standard_normal((count, 3))
    axis *= np.sqrt(2.0 / count) / np.linalg.norm(axis, axis=1, keepdims=True) * np.sqrt(3.0)
    return (np.cos(wave @ mean.T + phase)[:, :, None] * axis[:, None, :]).reshape(count, -1).astype(np.float32)


def _swelling_field(model):
    """[V, 3] unit displacement of a gain in weight: along the normals, most at cheeks and under the chin."""
    mean, triangles = np.asarray(model.mean), model.topology.triangles
    corners = mean[triangles]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([np.bincount(triangles.ravel(), np.repeat(face_normals[:, axis], 3), len(mean))
                        for axis in range(3)], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    landmarks = model.topology.landmarks
    # Above the base of the nose; that of a face without landmarks is about in the middle.
    height = mean[:, 1] - (mean[landmarks[33], 1] if len(landmarks) else np.ptp(mean[:, 1]) / 2 + mean[:, 1].min())
    fade = 1.0 / (1.0 + np.exp((height - 5.0) / 12.0))
    skin = model.topology.region("skin") if "skin" in model.topology.region_names else np.ones(len(mean), np.float32)
    return (normals * (fade * skin)[:, None]).astype(np.float32)


class FolderScans:
    """Scans from a folder `person/scan.{obj,ply,npz}`, all in the model's topology. Labels are the folder names.

    A file called `neutral.*` in a person's folder is taken as the reference shape; else the mean of the scans is.
    An npz holds `vertices` [V, 3] (mm) and may hold `triangles`. ValueError names the first file that is wrong.
    sources: {person: which scans}, another text where one is added, removed, renamed or changed.
    """

    def __init__(self, model: MorphableModel, people: dict[str, list[Path]]):
        self.names = tuple(people)
        self.persons = len(people)
        self.sources = {}
        shapes, labels, neutrals = [], [], []
        for label, files in enumerate(people.values()):
            person = [read_scan(file, model) for file in files]
            reference = [shape for shape, file in zip(person, files, strict=True) if file.stem.lower() == "neutral"]
            if len(reference) > 1:
                raise ValueError(f"{files[0].parent}: found {len(reference)} scans called neutral, expected one")
            neutrals.append(reference[0] if reference else np.mean(person, axis=0))
            self.sources[self.names[label]] = f"{len(files)} scans ({digest([file.name for file in files], *person)})"
            shapes += person
            labels += [label] * len(person)
        self._shapes, self._labels = np.stack(shapes), np.asarray(labels, np.int32)
        self._neutrals = np.stack(neutrals).astype(np.float32)

    def __len__(self):
        return len(self._shapes)

    def neutral_shapes(self):
        return self._neutrals

    def batch(self, indices):
        person = self._labels[indices]
        return {"vertices": self._shapes[indices], "neutral": self._neutrals[person], "person": person}


def find_people(folder: str | Path, min_scans: int = 2) -> dict[str, list[Path]]:
    """The scans of each person in `folder`, sorted; hidden files are none. ValueError: no such folder, no scans, a
    person with too few."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder, expected person/scan.{{obj,ply,npz}}")
    people = {}
    for person in filter(Path.is_dir, _visible(folder)):
        scans = [path for path in _visible(person) if path.suffix.lower() in MESH_SUFFIXES]
        if len(scans) < min_scans:
            raise ValueError(f"{person}: found {len(scans)} scans, expected at least {min_scans} of one person")
        people[person.name] = scans
    if not people:
        raise ValueError(f"{folder}: no scans found, expected person/scan.{{obj,ply,npz}}")
    return people


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_scan(path: Path, model: MorphableModel) -> np.ndarray:
    """Vertices [V, 3] float32 mm of a registered mesh. ValueError if not finite, not in the model's topology, or of
    another size than faces have."""
    vertices, triangles = _read_npz(path) if path.suffix.lower() == ".npz" else read_mesh(path)[:2]
    expected = np.asarray(model.mean).shape
    if vertices.shape != expected:
        raise ValueError(f"{path}: vertices: found shape {vertices.shape}, the model has {expected}")
    if triangles is not None and not _same_triangles(triangles, model.topology.triangles):
        raise ValueError(f"{path}: triangles: not those of the model ({len(triangles)} found, "
                         f"{len(model.topology.triangles)} expected), so vertices do not correspond")
    if not np.isfinite(vertices).all():
        row = int(np.argmin(np.isfinite(vertices).all(axis=1)))
        raise ValueError(f"{path}: vertices: vertex {row} is {vertices[row].tolist()}, expected finite numbers")
    _check_size(path, vertices, model)
    return vertices.astype(np.float32)


def _check_size(path, vertices, model):
    """ValueError unless a scan is about as large as the model; it names the factor that would make it so."""
    size, expected = (np.linalg.norm(np.std(shape, axis=0)) for shape in (vertices, np.asarray(model.mean)))
    low, high = (share * expected for share in SIZES)
    if low <= size <= high:
        return
    fitting = [f": multiply by {factor:g}, as if in {unit}" for unit, factor in UNITS.items()
               if low <= factor * size <= high]
    raise ValueError(f"{path}: vertices: found {size:.4g} mm from their middle (root mean square), expected "
                     f"{low:.0f} to {high:.0f}{fitting[0] if fitting else ''}")


def _read_npz(path):
    arrays = read_npz(path)
    if "vertices" not in arrays:
        raise ValueError(f"{path}: key 'vertices' is missing, found {one_line(', '.join(arrays) or 'nothing')}")
    triangles = integers(path, "triangles", arrays["triangles"]) if "triangles" in arrays else None
    if triangles is not None and (triangles.ndim != 2 or triangles.shape[1] != 3):
        raise ValueError(f"{path}: triangles: found shape {triangles.shape}, expected [triangles, 3]")
    return numbers(path, "vertices", arrays["vertices"]), triangles


def _same_triangles(a, b):
    """Equal as sets of oriented triangles: files may list them in another order or start at another corner."""
    def canonical(triangles):
        triangles = np.asarray(triangles)
        first = np.argmin(triangles, axis=1)[:, None]
        turned = np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1)
        return turned[np.lexsort(turned.T[::-1])]

    return len(a) == len(b) and bool(np.array_equal(canonical(a), canonical(b)))
