"""Reconstructed faces as files: meshes, parameters and pictures in a folder for each face, and a page to look at.

A folder is written under a temporary name and renamed when all of it is there.
"""

import contextlib
import dataclasses
import html
import itertools
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sfm_jax import __version__
from sfm_jax.atomic_files import atomic_write
from sfm_jax.evaluation.pictures import framing, shaded, to_srgb
from sfm_jax.evaluation.protocols.matching import NO_FACE, read_no_face
from sfm_jax.evaluation.report import PAGE_STYLE
from sfm_jax.inference import export
from sfm_jax.inference.photo_detail import PhotoDetailer
from sfm_jax.inference.reconstruction import Reconstruction

PARAMETERS = {  # name in params.npz and params.json: what it is
    "identity": "[K] standard deviations of the model's first identity components",
    "z": "[d] identity code on the unit sphere, to be compared by its cosine; empty without a network",
    "expression": "[E] in the order of expression_names: activations, 0 to 1; standard deviations, where the model's "
                  "expressions are statistical",
    "albedo": "[A] standard deviations of the model's components of log albedo",
    "light": "[9, 3] spherical harmonics of linear RGB irradiance, in the viewer's axes",
    "rotation": "[3, 3] of the head, from the model's axes to the viewer's (x right, y up, z to the viewer)",
    "pose_degrees": "[3] yaw (towards the image's right), pitch (down) and roll (counter-clockwise)",
    "camera": "[2, 4] pixels of the photo = camera @ (x, y, z, 1) of the model in mm",
    "landmarks68_px": "[68, 2] iBUG's landmarks of the model, hidden ones included, in pixels of the photo: x right, "
                      "y down, the centre of the first pixel at 0.5",
    "face_box": "[4] left, top, right, bottom of the detected points, pixels of the photo",
    "presence": "probability that this is a face, of the network that finds the points",
    "score": "of the face detector",
    "fitted": "whether the face was fitted to the photo, or is the network's answer",
}
TILE, GAP = 420, 10  # pixels, of the overlay's pictures
SIDE_YAW, OPACITY = 40.0, 0.7  # degrees; of the clay over the photo


@contextlib.contextmanager
def complete(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when all went well, in place of an earlier result that was there.

    Raises:
      ValueError: something else is there.
    """
    if folder.exists() and not (folder / "params.json").is_file():
        raise ValueError(f"{folder}: is in the way, expected nothing or an earlier result, with a params.json")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process of this number that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def settle(out: Path, name: str, count: int) -> None:
    """Remove results OUT/NAME_K with K > count: an earlier run found more faces in the photo than there are now. And
    list the photo, or no longer, among those without a face, so that they are told from those never looked at.

    ValueError where the list of an earlier run cannot be read.
    """
    for folder in out.iterdir():
        number = folder.name.removeprefix(f"{name}_")
        if number != folder.name and number.isdecimal() and int(number) > count and (folder / "params.json").is_file():
            shutil.rmtree(folder)
    path = out / NO_FACE
    listed = read_no_face(path) if path.exists() else []
    if (name in listed) == (count > 0):
        listed = [*listed, name] if count == 0 else [one for one in listed if one != name]
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(listed, indent=0) + "\n")


def write_face(
    folder: Path, image: UInt8[np.ndarray, "H W 3"], found: Reconstruction, texture: Float[np.ndarray, "T T 3"] | None,
    model_name: str, detail: int, detailer: PhotoDetailer | None = None,
) -> None:
    """All files of one face of a photo:

    face.obj, .mtl, .png: the mesh in mm, with its expression, and its texture; face.ply: with the colours of the skin;
    face.glb: the neutral face, with every expression as a morph target, set to those of the photo; params.npz and
    params.json, see PARAMETERS; overlay.png: photo, face over it, landmarks, and the shape by itself; and, with a
    detailer, what that writes.

    texture: sRGB; None: a model without UVs has none. model_name: "default" or the file of the model; detail:
    the level of the embedded one, 0 of others.
    """
    topology, vertices, neutral = found.model.topology, found.vertices(), found.vertices(neutral=True)
    uv = {} if texture is None else {"uv": topology.uv, "uv_triangles": topology.uv_triangles, "texture": texture}
    with complete(folder) as place:
        export.write_obj(place / "face.obj", vertices, topology.triangles, **uv)
        export.write_ply(place / "face.ply", vertices, topology.triangles, colours=to_srgb(found.colours()))
        basis = np.asarray(found.model.expression_basis)
        names = distinct(found.model.expression_names or [f"expression{i}" for i in range(len(basis))])
        export.write_glb(place / "face.glb", neutral, topology.triangles, **uv,
                         morph_targets=dict(zip(names, basis, strict=True)),
                         morph_weights=dict(zip(names, found.expression.tolist(), strict=True)))
        write_parameters(place, found, model_name, detail, vertices, image.shape)
        export.write_image(place / "overlay.png", overlay(image, found, texture))
        if detailer is not None:
            detailer.write(place, image, found)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that were there before with a number: "smile", "smile 2"."""
    found = []
    for name in names:
        numbers = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
        found.append(next(one for one in numbers if one not in found and (one == name or one not in names)))
    return found


def write_parameters(
    place: Path, found: Reconstruction, model_name: str, detail: int, vertices: Float[np.ndarray, "V 3"],
    shape: tuple[int, ...],
) -> None:
    """params.npz and params.json in a folder; both hold the same, but for the vertices, which only the npz has."""
    values = {name: np.asarray(getattr(found, name)) for name in PARAMETERS}
    about = {"model": model_name, "detail": detail, "model_name": found.model.name,
             "expression_names": list(found.model.expression_names), "image_size": [shape[1], shape[0]],
             "version": __version__}
    with open(place / "params.npz", "wb") as file:
        np.savez_compressed(file, **values, vertices=vertices.astype(np.float32),
                            **{name: np.asarray(value) for name, value in about.items()})
    text = {**about, **{name: rounded(value) for name, value in values.items()}, "meaning": PARAMETERS}
    (place / "params.json").write_text(json.dumps(text, indent=1) + "\n")


def rounded(value: np.ndarray) -> bool | int | float | list:
    """Plain numbers of an array, for JSON."""
    return value.tolist() if value.dtype.kind in "biu" else np.round(value.astype(np.float64), 5).tolist()


def overlay(
    image: UInt8[np.ndarray, "H W 3"], found: Reconstruction, texture: Float[np.ndarray, "T T 3"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    """TILE pixels high: the photo around the face; the shape over it; its landmarks; the shape in clay from the
    front; with its texture, or the model's colours, from the side."""
    corners = np.concatenate([found.face_box.reshape(2, 2), found.landmarks68_px])
    low, high = corners.min(0), corners.max(0)
    side = 1.35 * (high - low).max()
    corner = (low + high) / 2 - side / 2
    photo = _part(image, corner, side)
    vertices, triangles = found.vertices(), found.model.topology.triangles
    dots = photo.copy()
    draw = ImageDraw.Draw(dots)
    for x, y in (found.landmarks68_px - corner) * TILE / side:
        draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=(64, 224, 255), outline=(0, 60, 80))
    frame = framing(vertices)
    tiles = [np.asarray(photo), _laid_over(np.asarray(photo), found, corner, side), np.asarray(dots),
             shaded(vertices, triangles, TILE, frame=frame),
             shaded(vertices, triangles, TILE, yaw=SIDE_YAW, frame=frame, color=_vertex_colours(found, texture))]
    gap = np.full((TILE, GAP, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], 1)


def laid_over(
    image: UInt8[np.ndarray, "H W 3"], found: Reconstruction | None, longest: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A photo or frame with the shape over it, if any, its sides even and at most `longest` pixels."""
    height, width = image.shape[:2]
    zoom = min(1.0, longest / max(height, width))
    size = (max(2, round(width * zoom) // 2 * 2), max(2, round(height * zoom) // 2 * 2))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    if found is None:
        return small
    padded = np.zeros((max(size), max(size), 3), np.uint8)
    padded[:size[1], :size[0]] = small
    return _laid_over(padded, found, np.zeros(2), max(height, width) * max(size) / max(width * zoom, height * zoom)
                      )[:size[1], :size[0]]


def _laid_over(square, found, corner, side):
    """A square picture of a part of the photo, with the shape in clay over it."""
    # The studio pictures turn and light by themselves: what is drawn is already in the photo's pose.
    turned = found.vertices() @ found.rotation.T
    scale = np.linalg.norm(found.camera[0, :3])
    origin = (corner + side / 2 - found.camera[:, 3]) / scale * [1, -1]
    clay = shaded(turned, found.model.topology.triangles, len(square), frame=(np.array([*origin, 0]), side / scale),
                  background=None)
    alpha = OPACITY * clay[..., 3:] / 255
    return np.round((1 - alpha) * square + alpha * clay[..., :3]).astype(np.uint8)


def _vertex_colours(found, texture):
    """sRGB [V, 3]: the texture at the vertices, or the skin's colours."""
    if texture is None:
        return to_srgb(found.colours())
    topology = found.model.topology
    uv = np.zeros((len(found.model.mean), 2))
    uv[topology.triangles] = topology.uv[topology.uv_triangles]
    row, column = ((1 - uv[:, 1]) * len(texture)).astype(int), (uv[:, 0] * len(texture)).astype(int)
    return texture[np.clip(row, 0, len(texture) - 1), np.clip(column, 0, len(texture) - 1)]


def _part(image, corner, side):
    """A square of a photo at TILE pixels: averaged where it is larger; black outside."""
    picture, zoom = Image.fromarray(image), TILE / side
    if zoom < 1:
        box = tuple(np.round([*corner, *(corner + side)]).astype(int).tolist())
        return picture.crop(box).resize((TILE, TILE), Image.Resampling.LANCZOS)
    affine = (1 / zoom, 0, corner[0], 0, 1 / zoom, corner[1])
    return picture.transform((TILE, TILE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the page: the source's name, the folders of its faces, below the page's; or what was wrong with it."""

    source: str
    faces: Sequence[str] = ()
    problem: str = ""


def write_page(path: Path, entries: Sequence[Entry], title: str = "Faces") -> None:
    """index.html with every face's picture and links to its files, and every photo in which there was none."""
    parts = []
    for entry in entries:
        parts.append(f"<h2>{html.escape(entry.source)}</h2>")
        if entry.problem:
            parts.append(f"<p>{html.escape(entry.problem)}</p>")
        for face in entry.faces:
            files = sorted(file.name for file in (path.parent / face).iterdir() if file.suffix != ".mtl")
            place = urllib.parse.quote(os.fsencode(face))
            links = " · ".join(f'<a href="{place}/{name}">{name}</a>' for name in files)
            pictures = "".join(
                f'<video controls src="{place}/{name}" style="width:100%"></video>' if tag == "video" else
                f'<img src="{place}/{name}" alt="{name}" style="width:100%">'
                for name, tag in (("overlay.png", "img"), ("overlay.mp4", "video")) if name in files)
            facts = html.escape(_facts(path.parent / face))
            parts.append(f"<figure class=wide>{pictures}<figcaption>{facts}<br>{links}</figcaption></figure>")
    text = (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
            f"<style>{PAGE_STYLE}</style></head>\n<body><main><h1>{html.escape(title)}</h1>\n"
            "<p class=subtitle>From left to right: the photo, the shape over it, its 68 landmarks, the shape in clay "
            "from the front, and with its texture from the side.</p>\n" + "\n".join(parts)
            + "\n</main></body></html>\n")
    with atomic_write(path) as partial:  # names of files may be no UTF-8
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _facts(folder):
    """A sentence from a face's params.json."""
    params = json.loads((folder / "params.json").read_text())
    if np.ndim(params["pose_degrees"]) != 1:
        return f"{len(params['found'])} frames, a face in {sum(params['found'])}"
    yaw, pitch, roll = params["pose_degrees"]
    strongest = sorted(zip(params["expression"], params["expression_names"], strict=False),
                       key=lambda pair: abs(pair[0]), reverse=True)[:3]
    shown = ", ".join(f"{name} {value:.2f}" for value, name in strongest if abs(value) > 0.05)
    return (f"yaw {yaw:.0f}, pitch {pitch:.0f}, roll {roll:.0f} degrees; {shown or 'at rest'}; "
            f"{'fitted' if params['fitted'] else 'network alone'}; {params['model_name']}")

