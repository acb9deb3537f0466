"""Recognition losses: angular margins on the hypersphere, and the centre loss. Pure functions of one batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry import sphere
from sfm_jax.geometry.products import matmul


def cosine_logits(
    embeddings: Float[AnyArray, "*batch d"], class_weights: Float[AnyArray, "C d"]
) -> Float[Array, "*batch C"]:
    """cos(theta) [..., C] between embeddings [..., d] and class weights [C, d]; both are normalised here."""
    return matmul(sphere.normalise(embeddings), sphere.normalise(class_weights).T)


def angular_margin(
    cosine: Float[AnyArray, "*batch"], m1: float = 1.0, m2: float = 0.0, m3: float = 0.0
) -> Float[Array, "*batch"]:
    """psi(m1 theta + m2) - m3 of cos(theta): the target logit of all three angular margins.

    m1 multiplies the angle (SphereFace, Liu et al. 2017, eq. 7), m2 adds an angle (ArcFace, Deng et al. 2019,
    eq. 4), m3 subtracts from the cosine (CosFace, Wang et al. 2018, eq. 4). Beyond pi the cosine is continued as
    psi(phi) = (-1)^k cos(phi) - 2k with k = floor(phi / pi), SphereFace's continuation applied to all: the
    logit falls strictly with the angle, so that far-off samples are still pulled. Margins are static numbers.
    """
    if m1 == 1.0 and m2 == 0.0:
        return cosine - m3
    # arccos has an infinite slope at +-1; 1e-6 inside, the slope is about 700 and the angle wrong by 1.4e-3 rad. In
    # half precision there is nothing between that and 1.
    phi = m1 * jnp.arccos(jnp.clip(cosine.astype(jnp.float32), -1.0 + 1e-6, 1.0 - 1e-6)) + m2
    k = jax.lax.stop_gradient(jnp.floor(phi / jnp.pi))
    return ((1.0 - 2.0 * jnp.mod(k, 2.0)) * jnp.cos(phi) - 2.0 * k - m3).astype(cosine.dtype)


def margin_cross_entropy(
    cosine: Float[AnyArray, "*batch C"], labels: Int[AnyArray, "*batch"], m1: float = 1.0, m2: float = 0.0,
    m3: float = 0.0, scale: float = 32.0,
) -> Float[Array, "*batch"]:
    """Softmax cross-entropy [...] of scale * cosine [..., C] with the margin on the true class `labels` [...].

    A label of -1 means "unknown" and costs 0; one beyond all classes gives NaN.
    """
    known = labels >= 0
    index = jnp.where(known, labels, 0)
    target = jnp.take_along_axis(cosine, index[..., None], axis=-1)
    is_target = jnp.arange(cosine.shape[-1]) == index[..., None]
    logits = scale * jnp.where(is_target, angular_margin(target, m1, m2, m3), cosine)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), index[..., None], axis=-1)[..., 0]
    return jnp.where(known, -log_likelihood, 0.0)


# ------------------------------------------------------------------------- tables split over the devices of an axis
# Each device holds rows first .. first + C/D - 1 of a table of C rows, and the mean over devices of what these
# functions return is the loss. Differentiated under pmap or shard_map, a device's rows get D times their gradient of
# that mean: training.parallel divides by D.

ROWS = 1024


def padded_classes(persons: int) -> int:
    """Rows of a table for `persons`: the next multiple of 1024, so that 1, 2, 4, .. 1024 devices can share them, and a
    checkpoint of one number of devices fits another."""
    return -(-max(persons, 1) // ROWS) * ROWS


def split_margin_cross_entropy(
    embeddings: Float[AnyArray, "b d"], class_rows: Float[AnyArray, "C d"], labels: Int[AnyArray, " b"], persons: int,
    axis_name: str, m1: float = 1.0, m2: float = 0.0, m3: float = 0.0, scale: float = 32.0,
) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """`margin_cross_entropy` [b] of this device's samples, where class weights are split; and whether the true class
    has the largest cosine [b] (bool).

    Embeddings and labels of all devices are gathered, each device computes the logits of its own classes for all of
    them, and the softmax is reduced over the axis: no device ever holds all classes (as Partial FC, An et al. 2021).

    Args:
      embeddings: [b, d], of this device's samples; normalised here.
      class_rows: [C/D, d], this device's rows of the table; rows from `persons` on are padding and never compete.
      labels: [b] int32, of all persons; -1 is unknown and costs 0; beyond all persons: NaN.
    """
    count, device = len(embeddings), jax.lax.axis_index(axis_name)
    everyone = jax.lax.all_gather(sphere.normalise(embeddings), axis_name, tiled=True)
    everyone_labels = jax.lax.all_gather(labels, axis_name, tiled=True)
    own = len(class_rows) * device + jnp.arange(len(class_rows))
    cosine = matmul(everyone, sphere.normalise(class_rows).T)
    is_target = own == everyone_labels[:, None]
    column = jnp.clip(everyone_labels - own[0], 0, len(own) - 1)
    margined = angular_margin(jnp.take_along_axis(cosine, column[:, None], axis=1), m1, m2, m3)
    logits = scale * jnp.where(is_target, margined, cosine)
    logits = jnp.where(own < persons, logits, -jnp.inf)
    # The largest logit over all devices only keeps exp in range: it has no gradient.
    largest = jax.lax.pmax(jax.lax.stop_gradient(logits.max(1)), axis_name)
    total = jax.lax.psum(jnp.exp(logits - largest[:, None]).sum(1), axis_name)
    target = jax.lax.psum(jnp.where(is_target, logits, 0.0).sum(1), axis_name)
    known = (everyone_labels >= 0) & (everyone_labels < persons)
    loss = jnp.where(known, largest + jnp.log(total) - target, jnp.where(everyone_labels < 0, 0.0, jnp.nan))
    best = jax.lax.stop_gradient(jnp.where(own < persons, cosine, -jnp.inf))
    true_cosine = jax.lax.psum(jnp.where(is_target, jax.lax.stop_gradient(cosine), 0.0).sum(1), axis_name)
    correct = (true_cosine >= jax.lax.pmax(best.max(1), axis_name)) & known
    mine = device * count
    return tuple(jax.lax.dynamic_slice_in_dim(values, mine, count) for values in (loss, correct))


def split_centre_loss(
    codes: Float[AnyArray, "b d"], centre_rows: Float[AnyArray, "C d"], labels: Int[AnyArray, " b"],
    weights: Float[AnyArray, " b"], axis_name: str,
) -> Float[Array, " b"]:
    """Half the squared distance [b] of codes [b, d] to their person's centre, where centres are split [C/D, d].

    After the weighted centre loss of Jiang et al. 2022 (SIR; Wen et al. 2016 without weights): a sample's weight [b]
    multiplies the pull on its class centre, so that doubtful photos do not move it; the pull on the code is not
    weighed. A label of -1 costs 0. The value shown is that of the unweighed loss.
    """
    count, device = len(codes), jax.lax.axis_index(axis_name)
    everyone_labels = jax.lax.all_gather(labels, axis_name, tiled=True)
    own = everyone_labels - len(centre_rows) * device
    mine = (own >= 0) & (own < len(centre_rows)) & (everyone_labels >= 0)
    rows = jnp.where(mine[:, None], centre_rows[jnp.where(mine, own, 0)], 0.0)
    centres = jax.lax.dynamic_slice_in_dim(jax.lax.psum(rows, axis_name), device * count, count)
    weight = jax.lax.stop_gradient(weights)[:, None]
    weighed = weight * centres + jax.lax.stop_gradient((1 - weight) * centres)  # the centre, its gradient times weight
    return jnp.where(labels >= 0, 0.5 * jnp.sum((codes - weighed) ** 2, axis=-1), 0.0)
