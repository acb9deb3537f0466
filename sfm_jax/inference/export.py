"""The ways by which faces leave: meshes as OBJ, PLY and GLB, displacement maps, pictures and animations.

NumPy in, files out. Every file is written under a temporary name and renamed, so that a failure leaves nothing behind.
What a file cannot hold is an error of one line (ValueError) with the file and the argument; nothing is clipped.
Lengths come in millimetres and stay so in OBJ and PLY; GLB is in metres, as glTF demands. The axes are the same
everywhere: x to the image's right, y up, z towards the viewer.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.inference.glb import pack_glb, split_seams

UNITS = "units: millimetres; x to the image's right, y up, z towards the viewer"
MILLIMETRES = 1000  # per metre
ZERO = 32768  # the 16-bit value of 0 mm; as many units lie below it as above, but for the lowest one, unused
SHORTEST_FRAME = 0.02  # seconds: browsers slow down what is shorter
LONGEST_GIF = 655.0  # seconds: all frames may be equal, and one lasts 16 bits of hundredths at most


# ------------------------------------------------------------------------------------------------- meshes

def write_obj(
    path: str | os.PathLike,
    vertices: np.ndarray,
    triangles: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    uv_triangles: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    texture: np.ndarray | None = None,
) -> None:
    """Wavefront OBJ in mm; with a texture also a material and a picture beside it: NAME.obj, NAME.mtl, NAME.png.

    Args:
      path: ends in .obj.
      vertices: [V, 3] mm.
      triangles: [F, 3], outward counter-clockwise.
      uv: [U, 2] in [0, 1], v upwards.
      uv_triangles: [F, 3] indices into uv, which keep the seams; None if there is one UV for each vertex.
      normals: [V, 3].
      texture: sRGB [H, W, 3], uint8 or in [0, 1], its first row at v = 1.

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".obj")
    mesh = _mesh(path, vertices, triangles, uv, uv_triangles, normals)
    files, head = {}, f"# {UNITS}\n"
    if texture is not None:
        image, material = path.with_suffix(".png"), path.with_suffix(".mtl")
        files[image] = _textured(path, mesh, "texture", texture)
        files[material] = f"newmtl face\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {image.name}\n".encode()
        head += f"mtllib {material.name}\nusemtl face\n"
    text = head + _lines("v %.5f %.5f %.5f\n", mesh.vertices)
    columns, corner = [mesh.triangles], "%d"
    if mesh.uv is not None:
        text += _lines("vt %.6f %.6f\n", mesh.uv)
        columns, corner = [*columns, mesh.uv_triangles], "%d/%d"
    if mesh.normals is not None:
        text += _lines("vn %.5f %.5f %.5f\n", mesh.normals)
        columns, corner = [*columns, mesh.triangles], corner + ("/%d" if mesh.uv is not None else "//%d")
    text += _lines(f"f {corner} {corner} {corner}\n", np.stack(columns, -1) + 1)
    _write(files | {path: text.encode()})


def write_ply(
    path: str | os.PathLike,
    vertices: np.ndarray,
    triangles: np.ndarray,
    *,
    colours: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> None:
    """Binary PLY in mm: vertices [V, 3], triangles [F, 3], normals [V, 3], sRGB colours [V, 3], uint8 or in [0, 1].

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".ply")
    mesh = _mesh(path, vertices, triangles, normals=normals)
    columns = dict(zip("xyz", mesh.vertices.T, strict=True))
    if mesh.normals is not None:
        columns |= dict(zip(("nx", "ny", "nz"), mesh.normals.T, strict=True))
    if colours is not None:
        if np.shape(colours) != mesh.vertices.shape:
            raise ValueError(f"{path}: colours: shape {np.shape(colours)}, expected {mesh.vertices.shape}")
        columns |= dict(zip(("red", "green", "blue"), _bytes8(path, "colours", colours).T, strict=True))
    kinds = {name: ("u1", "uchar") if values.dtype == np.uint8 else ("<f4", "float")
             for name, values in columns.items()}
    table = np.empty(len(mesh.vertices), [(name, kind) for name, (kind, _) in kinds.items()])
    for name, values in columns.items():
        table[name] = values
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("indices", "<i4", 3)])
    faces["count"], faces["indices"] = 3, mesh.triangles
    header = ["ply", "format binary_little_endian 1.0", f"comment {UNITS}", f"element vertex {len(table)}",
              *(f"property {kind} {name}" for name, (_, kind) in kinds.items()),
              f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    _write({path: "\n".join(header).encode() + table.tobytes() + faces.tobytes()})


def write_glb(
    path: str | os.PathLike,
    vertices: np.ndarray,
    triangles: np.ndarray,
    *,
    uv: np.ndarray | None = None,
    uv_triangles: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    texture: np.ndarray | None = None,
    normal_map: np.ndarray | None = None,
    morph_targets: Mapping[str, np.ndarray] | None = None,
    morph_weights: Mapping[str, float] | None = None,
) -> None:
    """Binary glTF 2.0 in metres, one file with everything in it, for Blender, three.js and game engines.

    Vertices are split where UVs have seams; the corners of the triangles keep their order. Morph targets move the
    smooth normals along, too.

    Args:
      path: ends in .glb.
      vertices, triangles, uv, uv_triangles: as for `write_obj`, in mm.
      normals: [V, 3], made unit, zero ones +z; None computes smooth ones.
      texture: base colour, sRGB [H, W, 3], uint8 or in [0, 1].
      normal_map: tangent-space normals n as colours (n + 1) / 2, [H, W, 3] likewise; x along u, y up along v.
      morph_targets: {name: offsets [V, 3] in mm at weight 1}, such as expressions.
      morph_weights: {name: weight} with which the file opens; 0 where there is none.

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".glb")
    mesh = _mesh(path, vertices, triangles, uv, uv_triangles, normals)
    maps = {key: _textured(path, mesh, key, image)
            for key, image in (("texture", texture), ("normal_map", normal_map)) if image is not None}
    smooth = np.asarray(vertex_normals(mesh.vertices, mesh.triangles))
    targets = {}
    for name, offsets in (morph_targets or {}).items():
        offsets = _vectors(path, f"morph_targets[{name!r}]", offsets, len(mesh.vertices))
        turned = np.asarray(vertex_normals(mesh.vertices + offsets, mesh.triangles)) - smooth
        targets[name] = offsets / MILLIMETRES, turned
    if unknown := sorted(set(morph_weights or {}) - set(targets)):
        raise ValueError(f"{path}: morph_weights[{unknown[0]!r}]: no such target, expected one of morph_targets")
    weights = [float((morph_weights or {}).get(name, 0)) for name in targets]
    positions, unit = mesh.vertices / MILLIMETRES, _unit(smooth if mesh.normals is None else mesh.normals)
    corners = mesh.triangles
    if mesh.uv is not None:
        vertex, chosen, corners = split_seams(mesh.triangles, mesh.uv_triangles)
        positions, unit, uv = positions[vertex], unit[vertex], mesh.uv[chosen]
        targets = {name: (moved[vertex], turned[vertex]) for name, (moved, turned) in targets.items()}
    _write({path: pack_glb(path.stem, positions, unit, corners, uv, targets, weights, **maps)})


class _Mesh(NamedTuple):
    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray | None
    uv_triangles: np.ndarray | None
    normals: np.ndarray | None


def _mesh(path, vertices, triangles, uv=None, uv_triangles=None, normals=None):
    vertices = _vectors(path, "vertices", vertices)
    triangles = _indices(path, "triangles", triangles, len(vertices))
    normals = None if normals is None else _vectors(path, "normals", normals, len(vertices))
    if uv is None:
        if uv_triangles is not None:
            raise ValueError(f"{path}: uv_triangles: found without uv")
        return _Mesh(vertices, triangles, None, None, normals)
    uv = _vectors(path, "uv", uv, None if uv_triangles is not None else len(vertices), 2)
    if uv.min() < 0 or uv.max() > 1:
        raise ValueError(f"{path}: uv: values {uv.min():g}..{uv.max():g}, expected 0..1")
    uv_triangles = triangles if uv_triangles is None else _indices(path, "uv_triangles", uv_triangles, len(uv))
    if len(uv_triangles) != len(triangles):
        raise ValueError(f"{path}: uv_triangles: shape {uv_triangles.shape}, expected {triangles.shape}")
    return _Mesh(vertices, triangles, uv, uv_triangles, normals)


def _vectors(path, key, values, count=None, size=3):
    """values as float32 [count, size], all finite; any count above 0 if None."""
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != size or len(values) != (count or len(values) or 1):
        raise ValueError(f"{path}: {key}: shape {values.shape}, expected [{count or 'N'}, {size}]")
    with np.errstate(over="ignore"):  # found by the next line
        values = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise ValueError(f"{path}: {key}: {len(bad)} of {len(values)} rows are not finite, the first is {bad[0]}")
    return values


def _indices(path, key, triangles, count):
    triangles = np.asarray(triangles)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles) or triangles.dtype.kind not in "iu":
        raise ValueError(f"{path}: {key}: {triangles.dtype} {triangles.shape}, expected integers [F, 3]")
    if triangles.min() < 0 or triangles.max() >= count:
        raise ValueError(f"{path}: {key}: indices {triangles.min()}..{triangles.max()}, expected 0..{count - 1}")
    return triangles.astype(np.int32)


def _unit(normals):
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.where(length > 0, length, 1), np.float32([0, 0, 1]))


def _textured(path, mesh, key, image):
    """The PNG of an image that lies on the mesh."""
    if mesh.uv is None:
        raise ValueError(f"{path}: {key}: found without uv")
    return _png(_picture(path, key, image, (3,)))


def _lines(pattern, rows):
    """`pattern` filled with each row: formatting at once is many times faster than line by line."""
    return (pattern * len(rows)) % tuple(rows.ravel().tolist())


# --------------------------------------------------------------------------------------- maps and pictures

def write_displacement(path: str | os.PathLike, displacement: np.ndarray, mask: np.ndarray | None = None) -> None:
    """A displacement map as a 16-bit greyscale PNG, and beside it, exact, as NAME.npz.

    mm = value * millimetres_per_unit + offset_mm, both in the PNG's text; 32768 is 0 mm, and the unit is the smallest
    one with which the largest displacement fits, so that the PNG is within half a unit of what is given. The npz has
    displacement_mm [S, S] float32, mask [S, S] bool, millimetres_per_unit and offset_mm.

    Args:
      path: ends in .png.
      displacement: [S, S] mm along the normals, all finite; a UV map, or any other.
      mask: [S, S] bool, where the map means something; None is everywhere. Values outside are kept.

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".png")
    displacement = np.asarray(displacement)
    if displacement.ndim != 2 or len(set(displacement.shape)) != 1 or not displacement.size:
        raise ValueError(f"{path}: displacement: shape {displacement.shape}, expected [S, S]")
    mask = np.ones(displacement.shape, bool) if mask is None else np.asarray(mask)
    if mask.shape != displacement.shape or mask.dtype != bool:
        raise ValueError(f"{path}: mask: {mask.dtype} {mask.shape}, expected bool {displacement.shape}")
    with np.errstate(over="ignore"):  # found by the next line
        displacement = displacement.astype(np.float32)
    bad = displacement.size - np.isfinite(displacement).sum()
    if bad:
        raise ValueError(f"{path}: displacement: {bad} of {displacement.size} numbers are not finite")
    unit = (float(np.abs(displacement).max()) or 1.0) / (ZERO - 1)
    values = np.rint(displacement.astype(np.float64) / unit).astype(np.int64) + ZERO
    scale = {"millimetres_per_unit": unit, "offset_mm": -ZERO * unit}
    text = PngInfo()
    for key, number in scale.items():
        text.add_text(key, repr(number))
    arrays = io.BytesIO()
    np.savez_compressed(arrays, displacement_mm=displacement, mask=mask, **scale)
    _write({path.with_suffix(".npz"): arrays.getvalue(), path: _png(values.astype(np.uint16), pnginfo=text)})


def read_displacement(path: str | os.PathLike) -> np.ndarray:
    """The displacement map [S, S] float32, mm, of either file of `write_displacement`.

    Raises:
      ValueError: a file that is not one, with what it lacks.
    """
    path = Path(path)
    readers = {".png": _read_png16, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: extension {path.suffix!r}, expected '.png' or '.npz'")
    try:
        return readers[path.suffix.lower()](path)
    except KeyError as error:
        raise ValueError(f"{path}: key {error.args[0]!r} is missing, expected a displacement map") from None
    except Exception as error:  # Pillow, zipfile, zlib and NumPy each raise their own kinds on damaged files
        raise ValueError(f"{path}: not a readable displacement map ({error})") from None


def _read_png16(path):
    with Image.open(path) as image:
        if not image.mode.startswith("I"):
            raise ValueError(f"mode {image.mode}, expected 16-bit greyscale")
        unit, offset = (float(image.text[key]) for key in ("millimetres_per_unit", "offset_mm"))
        return (np.asarray(image).astype(np.float64) * unit + offset).astype(np.float32)


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        if "displacement_mm" not in file.files:
            raise KeyError("displacement_mm")
        return file["displacement_mm"].astype(np.float32)


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """A PNG of an sRGB image, uint8 or in [0, 1]: [H, W, 3], [H, W, 4] with alpha, or grey [H, W].

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".png")
    _write({path: _png(_picture(path, "image", image, (None, 3, 4)))})


def write_gif(path: str | os.PathLike, frames: Iterable[np.ndarray], seconds_per_frame: float) -> None:
    """An endless animated GIF of sRGB frames [H, W, 3], uint8 or in [0, 1], each with 256 colours of its own.

    GIF counts hundredths of a second: frames are longer or shorter by one of them, so that the whole is in time.
    Equal frames in a row become one that lasts as long.

    Raises:
      ValueError: what cannot be written, and where.
    """
    path = _target(path, ".gif")
    frames = [_picture(path, f"frames[{i}]", frame, (3,)) for i, frame in enumerate(frames)]
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1:
        raise ValueError(f"{path}: frames: shapes {shapes or 'of no frames'}, expected one for all")
    longest = LONGEST_GIF / len(frames)
    if not SHORTEST_FRAME <= seconds_per_frame <= longest:
        raise ValueError(f"{path}: seconds_per_frame: found {seconds_per_frame}, expected {SHORTEST_FRAME} to "
                         f"{longest:.4g} for {len(frames)} frames")
    ends = np.rint(100 * seconds_per_frame * np.arange(len(frames) + 1))
    first, *others = (_indexed(frame) for frame in frames)
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=(10 * np.diff(ends)).astype(int).tolist(),
               loop=0, optimize=False)
    _write({path: stream.getvalue()})


def _indexed(frame):
    """256 colours that k-means has moved to the frame's; of shaded skin they need no dithering, which would flicker."""
    return Image.fromarray(frame).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)


def _picture(path, key, image, channels):
    """An image as uint8, of one of the numbers of channels (None: an array [H, W])."""
    shape = np.shape(image)
    if len(shape) not in (2, 3) or 0 in shape or (shape[2] if len(shape) == 3 else None) not in channels:
        raise ValueError(f"{path}: {key}: shape {shape}, expected "
                         + " or ".join("[H, W]" if count is None else f"[H, W, {count}]" for count in channels))
    return _bytes8(path, key, image)


def _bytes8(path, key, values):
    """Colours, uint8 or in [0, 1], as uint8."""
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise ValueError(f"{path}: {key}: {values.dtype}, expected uint8 or numbers in 0..1")
    levels = np.rint(255 * values)
    if not (levels.min() >= 0 and levels.max() <= 255):
        raise ValueError(f"{path}: {key}: values {values.min():g}..{values.max():g}, expected 0..1")
    return levels.astype(np.uint8)


def _png(image, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", **options)
    return stream.getvalue()


# -------------------------------------------------------------------------------------------------- files

def _target(path, extension):
    path = Path(path)
    if path.suffix.lower() != extension:
        raise ValueError(f"{path}: extension {path.suffix!r}, expected {extension!r}")
    return path


def _write(files: dict[Path, bytes]) -> None:
    """All files under temporary names, then all renamed, the last one last: a reader of it finds the others there."""
    for path in files:
        if not os.path.isdir(path.parent):  # Path.is_dir raises for names that are too long
            raise ValueError(f"{path}: the folder {path.parent} does not exist")
        if os.path.isdir(path):
            raise ValueError(f"{path}: is a folder, expected a file or nothing")
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    try:
        for path, content in files.items():
            partials[path].write_bytes(content)
        for path, partial in partials.items():
            os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
