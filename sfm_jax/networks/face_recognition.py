"""A ready-made face recognition network, dlib's `dlib_face_recognition_resnet_model_v1` (Davis King 2017), and weights.

Public domain (CC0 1.0, see assets/LICENSES). Features of two aligned photos are nearer than about 0.6 (Euclidean)
where they show one person; that threshold holds on average, not for every group of people. Differentiable, for
perceptual losses. The weights were converted by experiments/face_recognition/convert.py.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.products import matmul

ASSET = Path(__file__).parent.parent / "assets" / "face_recognition.npz"
SIZE = 150  # pixels
# Channels of the residual blocks; those that are True halve the map.
BLOCKS = (
    *[(32, False)] * 3, (64, True), *[(64, False)] * 3, (128, True), *[(128, False)] * 2,
    (256, True), *[(256, False)] * 2, (256, True),
)
FEATURES = 128
_MEAN = (122.782, 117.001, 104.298)  # RGB, of 255
# The corners of the eyes and the base of the nose, as numbers of iBUG-68, and where dlib's chips have them: on the
# unit square, around which there is a border of a quarter.
_ALIGNED_POINTS = np.array([45, 42, 36, 39, 33])
_ALIGNED = np.array([
    [0.8595674595992, 0.2134981538014], [0.6460604764104, 0.2289674387677], [0.1205750620789, 0.2137274526848],
    [0.3340850613712, 0.2290642403242], [0.4901123135679, 0.6277975316475]])
_BORDER = 0.25


class Convolution(NamedTuple):
    """With the affine layer that follows folded in."""

    kernel: Float[AnyArray, "k k in out"]
    bias: Float[AnyArray, " out"]


class FaceRecognition(NamedTuple):
    """The stem's 7x7 convolution, two 3x3 ones for each of BLOCKS, and the embedding."""

    convolutions: tuple[Convolution, ...]
    embedding: Float[AnyArray, "256 128"]


@functools.cache
def load_face_recognition() -> FaceRecognition:
    """The embedded weights, 5.6 million, stored as float16. ValueError where the file is damaged or foreign."""
    shapes = {"embedding": (BLOCKS[-1][0], FEATURES)}
    for i, shape in enumerate(kernel_shapes()):
        shapes |= {f"kernel_{i:02}": shape, f"bias_{i:02}": shape[-1:]}
    with np.load(ASSET, allow_pickle=False) as file:
        for key, shape in shapes.items():
            found = file[key].shape if key in file else "nothing"
            if found != shape:
                raise ValueError(f"{ASSET}: key {key!r}: found {found}, expected {shape}")
        arrays = {key: file[key].astype(np.float32) for key in shapes}
    count = 1 + 2 * len(BLOCKS)
    convolutions = tuple(Convolution(arrays[f"kernel_{i:02}"], arrays[f"bias_{i:02}"]) for i in range(count))
    return FaceRecognition(convolutions, arrays["embedding"])


def kernel_shapes() -> list[tuple[int, int, int, int]]:
    """Of every convolution, in order: [k, k, in, out]."""
    shapes, width = [(7, 7, 3, BLOCKS[0][0])], BLOCKS[0][0]
    for channels, _ in BLOCKS:
        shapes += [(3, 3, width, channels), (3, 3, channels, channels)]
        width = channels
    return shapes


def face_features(params: FaceRecognition, images: Float[AnyArray, "B S S 3"]) -> Float[Array, "B 128"]:
    """sRGB images in [0, 1], aligned (see `align_faces`). ValueError unless S is 150."""
    if images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"face_features: found images {images.shape}, expected [B, {SIZE}, {SIZE}, 3]")
    last = feature_maps(params, images)[-1]
    return matmul(jnp.mean(last, (1, 2)), params.embedding)


def feature_maps(params: FaceRecognition, images: Float[AnyArray, "B S S 3"]) -> list[Float[Array, "B _ _ _"]]:
    """sRGB images in [0, 1] -> the map before each block that halves it, and the last.

    Made for S = 150, where their sides are 35, 17, 8, 4 and 2; another S shows the network faces of another size.
    """
    stem, *rest = params.convolutions
    x = (255 * images - jnp.asarray(_MEAN)) / 256
    x = jax.nn.relu(_stem(x, stem))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    maps = []
    for (_, halves), first, second in zip(BLOCKS, rest[::2], rest[1::2], strict=True):
        y = jax.nn.relu(_convolve(x, first, stride=2 if halves else 1, pad=0 if halves else 1))
        y = _convolve(y, second, stride=1, pad=1)
        if halves:
            maps.append(x)
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        x = jax.nn.relu(_add(y, x))
    return [*maps, x]


def align_faces(
    images: Float[AnyArray, "B H W 3"], landmarks: Float[AnyArray, "B 68 2"]
) -> Float[Array, "B 150 150 3"]:
    """Images and their iBUG-68 landmarks in pixels -> aligned faces.

    The similarity that moves the eyes' corners and the nose's base nearest to where they are in the faces that the
    network was trained on; bilinear, zero outside the image.
    """
    target = SIZE * (_BORDER + _ALIGNED) / (1 + 2 * _BORDER)
    scale, offset = _similarity(jnp.asarray(target, jnp.float32), landmarks[:, _ALIGNED_POINTS] - 0.5)
    grid = jnp.arange(SIZE, dtype=jnp.float32)
    x, y = jnp.meshgrid(grid, grid)

    def sample(image, scale, offset):
        rows = scale[1] * x + scale[0] * y + offset[1]
        columns = scale[0] * x - scale[1] * y + offset[0]
        take = functools.partial(jax.scipy.ndimage.map_coordinates, coordinates=[rows, columns], order=1)
        return jax.vmap(take, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(sample)(images, scale, offset)


def resize_faces(images: Float[AnyArray, "B S S C"]) -> Float[Array, "B 150 150 C"]:
    """Crops of the network's size, antialiased; aligned only as well as the crops are."""
    return jax.image.resize(images, (len(images), SIZE, SIZE, images.shape[-1]), "linear")


def _similarity(source, target):
    """Points [N, 2] and [B, N, 2] -> the a [B, 2] and b [B, 2] of the nearest target = a source + b in the plane of
    complex numbers."""
    centre, mean = jnp.mean(source, 0), jnp.mean(target, 1)
    (p, q), moved = (source - centre).T, target - mean[:, None]
    u, v = moved[..., 0], moved[..., 1]
    scale = jnp.stack([matmul(u, p) + matmul(v, q), matmul(v, p) - matmul(u, q)], -1) / jnp.sum(p * p + q * q)
    turned = jnp.stack([scale[:, 0] * centre[0] - scale[:, 1] * centre[1],
                        scale[:, 1] * centre[0] + scale[:, 0] * centre[1]], -1)
    return scale, mean - turned


@jax.custom_vjp
def _stem(x, convolution):
    """`_blocked`; on CPUs photo by photo, which takes a quarter of the time: their maps stay in the cache."""
    def one_by_one(x, convolution):
        return jax.lax.map(lambda photo: _blocked(photo[None], convolution)[0], x)

    return jax.lax.platform_dependent(x, convolution, cpu=one_by_one, default=_blocked)


def _stem_forward(x, convolution):
    return _stem(x, convolution), (x, convolution)


def _stem_backward(residuals, gradient):
    """Of all photos at once: in a loop XLA transposes the convolution without its fast kernels."""
    return jax.vjp(_blocked, *residuals)[1](gradient)


_stem.defvjp(_stem_forward, _stem_backward)


def _blocked(x, convolution):
    """`_convolve` of stride 2 without padding, 7x7: as 4x4 of stride 1 over the four pixels of each 2x2 block as
    channels, which is a third cheaper on CPUs, where three channels fill no vector."""
    blocks = [(size - 7) // 2 + 4 for size in x.shape[1:3]]
    x = jnp.pad(x, [(0, 0), *((0, max(2 * n - size, 0)) for n, size in zip(blocks, x.shape[1:3], strict=True)), (0, 0)])
    x = x[:, :2 * blocks[0], :2 * blocks[1]].reshape(len(x), blocks[0], 2, blocks[1], 2, -1)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), *blocks, -1)
    kernel = jnp.pad(convolution.kernel, [(0, 1), (0, 1), (0, 0), (0, 0)])
    kernel = kernel.reshape(4, 2, 4, 2, *kernel.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    return _convolve(x, Convolution(kernel.reshape(4, 4, -1, kernel.shape[-1]), convolution.bias), stride=1, pad=0)


def _convolve(x, convolution, stride, pad):
    y = jax.lax.conv_general_dilated(
        x, convolution.kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST)
    return y + convolution.bias


def _add(y, x):
    """y + x, the smaller padded by zeros at its ends. x is added in place: XLA's CPU backend (jaxlib 0.10.2)
    miscompiles a sum with channels padded."""
    rows, columns = (max(0, x.shape[i] - y.shape[i]) for i in (1, 2))
    y = jnp.pad(y, [(0, 0), (0, rows), (0, columns), (0, 0)])
    return y.at[:, :x.shape[1], :x.shape[2], :x.shape[3]].add(x)
