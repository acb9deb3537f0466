"""Square crops around faces."""

import numpy as np


def landmark_box(landmarks, mask=None):
    """Square box of 3DDFA around landmarks [..., 68, 2]: (centre [..., 2], side [...])."""
    import jax.numpy as jnp
    xp = np if isinstance(landmarks, np.ndarray) else jnp
    known = xp.ones(landmarks.shape[:-1], bool) if mask is None else mask > 0
    low = xp.where(known[..., None], landmarks, xp.inf).min(-2)
    high = xp.where(known[..., None], landmarks, -xp.inf).max(-2)
    return (low + high) / 2, 2.0 ** 0.5 * (high - low).max(-1)
