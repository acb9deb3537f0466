"""The network of learned detail that comes with the package: for faces of the embedded model, as the package's photo
encoder finds them.

Trained by configs/detail.py on synthetic photos of the embedded people, and packed by
experiments/default_weights/pack_detail.py.
"""

import functools
import json
import os
from pathlib import Path

from ml_collections import ConfigDict

from sfm_jax.inference.detail_encoder import DetailEncoder
from sfm_jax.inference.packed import read_packed, unpacked_tree
from sfm_jax.morphable.default import load_default

ASSET = Path(__file__).parent.parent / "assets" / "detail.npz"
FORMAT = "sfm-jax detail 1"
# What of a detail config the encoder and its model read, kept as JSON under the key "config".
SETTINGS = ("broadest", "detail", "direction", "image_size", "limit", "model", "precision", "relight", "uv_size",
            "widths")
_KEYS = ("config", "licence", "report", "params")


@functools.cache
def load_default_detail() -> tuple[DetailEncoder, dict]:
    """(encoder, params) of the weights in the package: see `read_detail`. Takes seconds, once."""
    return read_detail(ASSET)


def read_detail(path: str | os.PathLike) -> tuple[DetailEncoder, dict]:
    """(encoder, params) of a packed network, as `DetailEncoder.detailed` takes them; parameters become float32.

    Raises:
      ValueError: no such file, another format, or a damaged file.
    """
    arrays = _read(path)
    config = ConfigDict(json.loads(str(arrays["config"])))
    return DetailEncoder(config, load_default(config.detail)), unpacked_tree(arrays, "params")


def detail_facts(path: str | os.PathLike = ASSET) -> dict:
    """What a packed network says of itself: its licence, and the numbers of its training's report by name.

    Raises:
      ValueError: see `read_detail`.
    """
    arrays = _read(path)
    return {"licence": str(arrays["licence"]), "report": json.loads(str(arrays["report"]))}


def _read(path):
    return read_packed(path, FORMAT, _KEYS)
