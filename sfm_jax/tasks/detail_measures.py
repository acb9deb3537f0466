"""What learned detail is worth: on photos of held-out people whose wrinkles are known."""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.geometry.products import einsum
from sfm_jax.inference.detail import NOSE_TIP
from sfm_jax.inference.detail_encoder import Detailed
from sfm_jax.losses.image import colour_distance, masked_image_mean
from sfm_jax.tasks.batched import in_batches
from sfm_jax.tasks.photo_data import synthetic_photos, true_face

BATCH = 4
RELIEF = 6.0  # mm, standard deviation: what is broader is shape, not relief
JUMP = 10.0  # mm along a ray: surfaces farther apart are other parts of the face, as beside the nose


def measure(task, params: dict, state: dict) -> dict[str, float]:
    """On one photo each of held-out people, on the skin that is seen there and may be displaced, pixel by pixel:

    `detail/normal_error_coarse_degrees`, `_fine_degrees`: mean angle between the normals and the true ones;
    `detail/correlation`: of the displacement that was found with the true one: the distances of the fine surface and of
    the true one from the coarse one, along the rays and then foreshortened to its normals; both without what is broader
    than RELIEF, for where the whole head stands in depth no photo says, and only where the coarse surface and the true
    one are within JUMP: `detail/apart_percent` of the pixels are not. Mean over photos; `detail/correlation_pooled`:
    all pixels together. `detail/relief_error_mm` beside `detail/true_relief_mm`: mean absolute, of the found one, and
    of none. `detail/wrinkle_correlation`: of the displacement itself with the drawn wrinkles alone, without the folds
    that the true face has and the coarse one has not. `detail/photo_error_coarse`, `_fine`: sRGB distance on the whole
    face; `detail/largest_in_masked_mm`: displacement where there must be none.

    `given_shape/...`: the same if the coarse face were the true one, but for its wrinkles: detail by itself.
    """
    photos = synthetic_photos(task.config, task.model, task.people.heldout, task.config.seed + 1)
    coarse = {"detail": lambda state, scenes, record: task.coarse_face(state, record["image"]),
              "given_shape": lambda state, scenes, record: true_face(photos, scenes)}
    return {f"{name}/{key}": value for name, face_of in coarse.items()
            for key, value in _summary(_examined(task, params, state, photos, face_of)).items()}


def _examined(task, params, state, photos, face_of):
    """`_scores` of a photo of each person, [N] each; face_of: (state, scenes, record) -> coarse faces."""
    @jax.jit
    def examine(params, state, ids):
        scenes = photos.scenes(ids)
        record = photos.shoot(scenes)
        found = task.encoder.detailed(params, face_of(state, scenes, record), record["image"])
        return _scores(task, found, record)

    count = min(task.config.data.heldout_photos, photos.persons)
    return in_batches(lambda rows: examine(params, state, jnp.asarray(rows)), count, BATCH)


def _scores(task, found: Detailed, record: dict) -> dict:
    """Per photo [B]: sums over its pixels."""
    true = record["normals"]
    valid = (found.coarse["free"] > 0.5) & (found.fine["free"] > 0.5) & (record["mask"] > 0.9)
    valid &= jnp.sum(true**2, -1) > 0.5
    valid = valid.astype(jnp.float32)
    deviation = RELIEF / _millimetres_per_pixel(task, found)
    # Depth grows away from the viewer.
    apart = found.coarse["depth"] - record["depth"]
    beside = jnp.where(jnp.abs(_relief(apart, valid, deviation)) < JUMP, valid, 0.0)
    d, t = (jnp.abs(found.coarse["normals"][..., 2]) * _relief(distance, beside, deviation)
            for distance in (found.coarse["depth"] - found.fine["depth"], apart))

    def total(values):
        return jnp.sum(values * valid, (1, 2))

    def angle(normals):
        return total(jnp.degrees(jnp.arccos(jnp.clip(jnp.sum(normals * true, -1), -1, 1))))

    def unlike(seen):
        return masked_image_mean(colour_distance(seen["colour"], found.photo), seen["alpha"])

    blocked = jnp.where(task.space.mask == 0, jnp.abs(found.displacement), 0.0)
    wrinkles = _moments(found.fine["displacement"], record["displacement"], total)
    return {
        "pixels": total(jnp.ones_like(d)), "beside": total(beside), "coarse": angle(found.coarse["normals"]),
        "fine": angle(found.fine["normals"]), "relief": _moments(d, t, total), "wrinkles": wrinkles,
        "error": total(jnp.abs(d - t)), "true": total(jnp.abs(t)),
        "photo_coarse": unlike(found.coarse), "photo_fine": unlike(found.fine), "blocked": jnp.max(blocked, (1, 2)),
        "overflow": record["overflow"] + found.coarse["overflow"] + found.fine["overflow"],
    }


def _moments(x, y, total):
    """Sums [B, 5] for a correlation."""
    return jnp.stack([total(values) for values in (x, y, x * x, y * y, x * y)], -1)


def _millimetres_per_pixel(task, found: Detailed) -> jax.Array:
    """At the tip of the nose as the coarse face's camera sees it, [B, 1, 1]."""
    tip = found.face.vertices[:, task.model.topology.landmarks[NOSE_TIP]]
    beside = tip + 10 * found.base.camera.rotation[:, 0]
    first, second = (jax.vmap(lambda camera, point: camera.project(point[None])[0, :2])(found.base.camera, point)
                     for point in (tip, beside))
    return (10 / jnp.linalg.norm(second - first, axis=-1))[:, None, None]


def _relief(distance, valid, deviation):
    """Distances [B, S, S] less their Gaussian mean over the valid pixels; deviation [B, 1, 1] pixels."""
    place = jnp.arange(distance.shape[1], dtype=distance.dtype)
    away = place[:, None] - place
    kernel = jnp.exp(-0.5 * (away / deviation) ** 2)

    def blurred(values):
        return einsum("bij,bjk,blk->bil", kernel, values, kernel)

    return jnp.where(valid > 0, distance - blurred(distance * valid) / jnp.maximum(blurred(valid), 1e-6), 0.0)


def _summary(scores: dict) -> dict[str, float]:
    sums = {name: values.astype(np.float64) for name, values in scores.items()}
    seen = {name: values[sums["beside"] > 0] for name, values in sums.items()}
    pixels, beside = seen["pixels"].sum(), seen["beside"].sum()
    coarse, fine = (seen[name].sum() / pixels for name in ("coarse", "fine"))
    return {
        "normal_error_coarse_degrees": coarse, "normal_error_fine_degrees": fine,
        "normal_error_lower_percent": 100 * (1 - fine / coarse),
        "apart_percent": 100 * (1 - beside / pixels),
        "correlation": float(np.mean(_correlation(seen["beside"], seen["relief"]))),
        "correlation_pooled": float(_correlation(beside, seen["relief"].sum(0))),
        "wrinkle_correlation": float(np.mean(_correlation(seen["pixels"], seen["wrinkles"]))),
        "relief_error_mm": seen["error"].sum() / beside,
        "true_relief_mm": seen["true"].sum() / beside,
        "photo_error_coarse": float(sums["photo_coarse"].mean()),
        "photo_error_fine": float(sums["photo_fine"].mean()),
        "largest_in_masked_mm": float(sums["blocked"].max()),
        "overflow": int(sums["overflow"].sum()), "photos": len(sums["pixels"]),
    }


def _correlation(count, moments):
    """Pearson's [...] from sums [..., 5] over `count` [...] pixels; 0 where one of the two does not vary."""
    x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    covariance = xy - x * y / count
    spread = np.sqrt(np.maximum(xx - x * x / count, 0) * np.maximum(yy - y * y / count, 0))
    return np.where(spread > 0, covariance / np.where(spread > 0, spread, 1), 0.0)
