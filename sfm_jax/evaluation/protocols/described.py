"""Codes and neutral shapes of faces by name, from one npz of arrays or from what the reconstruct command wrote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sfm_jax.evaluation.protocols.landmark_files import read_arrays
from sfm_jax.evaluation.protocols.matching import parameter_files
from sfm_jax.evaluation.protocols.reconstructions import neutral_shape, read_face

CODES, SHAPES = "codes", "shapes"


def read_described(place: str | Path) -> dict[str, Mapping[str, np.ndarray]]:
    """{"codes": {name: [d]}, "shapes": {name: [V, 3] mm}}, as far as they are there.

    place: an .npz of vectors, or of shapes, by name; or a folder of the reconstruct command, of which the largest face
    of each photo counts, its shape neutral and, of the embedded model, at the coarser level.

    Raises:
      ValueError: nothing of the kind, or files that cannot be read.
    """
    place = Path(place)
    if place.suffix == ".npz":
        arrays = read_arrays(place)
        kinds = {1: {}, 2: {}}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu" or array.ndim not in kinds or (array.ndim == 2 and array.shape[1] != 3):
                raise ValueError(f"{place}: key '{name}': found {array.dtype} of shape {array.shape}, expected a code "
                                 "[d] or a shape [V, 3]")
            kinds[array.ndim][name] = array
        found = {CODES: kinds[1], SHAPES: kinds[2]}
    else:
        faces = {name: read_face(paths[0]) for name, paths in parameter_files(place).items()}
        codes = {name: face["z"] for name, face in faces.items() if np.size(face.get("z", ()))}
        found = {CODES: codes if len(codes) == len(faces) else {},
                 SHAPES: {name: neutral_shape(face, detail=0) for name, face in faces.items()}}
    found = {kind: things for kind, things in found.items() if things}
    if not found:
        raise ValueError(f"{place}: found neither codes nor shapes, expected an .npz of arrays by name or what the "
                         "reconstruct command writes")
    return found
