"""Other face models to ours, and ours to others.

    python -m sfm_jax.convert IN OUT [--format=...] [--unit=mm] [--landmarks=FILE] [--identities=50] ...

IN is a file or folder of any format that sfm_jax.morphable.formats reads, or "default", the embedded face. OUT is, by
its suffix, our NAME.npz, eos' NAME.bin, NAME.glb with a morph target for each component, or else a folder of OBJs, the
mean and each component at one. What was found in IN is printed, and what was not.

Exit code 0: written; 2: bad input, one line says what.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfm_jax.command_line import Parser, refuse

OPTIONS = {
    "unit": "of lengths in IN: m, dm, cm, mm or um (formats that do not say)",
    "landmarks": "a file of the 68 landmarks' vertices",
    "blendshapes": "eos: expressions in a .bin of their own",
    "contours": "eos: vertices of the face's sides (JSON)",
    "uv": "flame: a mesh or npz with UVs",
    "factors": "bilinear: .npy of people's identity coefficients",
    "topology": "a mesh with the triangles, where IN has none",
    "keys": "npz: PART:KEY,.. where keys are not named mean, identity, expression, triangles, ..",
}

SUFFIXES = (".npz", ".bin", ".glb", "")  # of OUT
LIST = "sfm_jax_convert.txt"  # in a folder of OBJs: their names, one a line
IBUG = 68  # landmarks, in an order that says what they are


def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit code."""
    try:
        arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
        convert(arguments)
    except (ValueError, OSError) as error:
        return refuse(error)
    return 0


def convert(arguments: argparse.Namespace) -> None:
    """Read, tell, write. ValueError, one line, for whatever is wrong with IN or OUT."""
    from sfm_jax.morphable.default import load_default
    from sfm_jax.morphable.formats import eos, guess_format, load_face_model

    source, target = arguments.source, Path(arguments.target)
    if not target.parent.is_dir():
        raise ValueError(f"{target}: the folder {target.parent} does not exist")
    if target.suffix not in SUFFIXES:
        raise ValueError(f"{target}: suffix {target.suffix!r}, expected {', '.join(SUFFIXES[:-1])} or a folder's name "
                         "without one")
    if arguments.identities is not None and arguments.identities < 1:
        raise ValueError(f"--identities: found {arguments.identities}, expected 1 or more")
    options = {key: getattr(arguments, key) for key in OPTIONS if getattr(arguments, key) is not None}
    if "keys" in options:
        options["keys"] = _keys(options["keys"])
    if source == "default" and not Path(source).exists():
        if options or arguments.format:
            raise ValueError(f"--{next(iter(options), 'format')}: found with the embedded model, expected with a file")
        kind, model = "sfm-jax", load_default()
    else:
        kind = arguments.format or guess_format(source)
        if kind == "eos":
            options = eos.companions(source) | options
        for key, value in options.items():
            print(f"with {key}: {value}")
        model = load_face_model(source, kind, **options)
    if arguments.identities is not None:
        if arguments.identities > len(model.identity_basis):
            raise ValueError(f"--identities: found {arguments.identities}, expected at most the "
                             f"{len(model.identity_basis)} of {source}")
        model = model.replace(identity_basis=model.identity_basis[:arguments.identities],
                              identity_sigma=model.identity_sigma[:arguments.identities])
    print(f"{source}: {kind}\n{describe(model)}")
    left_out = write(target, model)
    print(f"{target}: written" + (f", without {', '.join(left_out)}" if left_out else ""))


def describe(model) -> str:
    """What a model has, a line each, and a last line with what it has not."""
    from sfm_jax.morphable.formats.assemble import rms

    t, mean = model.topology, np.asarray(model.mean)
    width, height, depth = np.ptp(mean, axis=0)
    size = f"millimetres, {width:.0f} wide, {height:.0f} high, {depth:.0f} deep"
    if len(t.landmarks) == IBUG:
        size += f"; outer corners of the eyes {np.linalg.norm(mean[t.landmarks[36]] - mean[t.landmarks[45]]):.1f} apart"
    spread = rms(np.asarray(model.identity_basis))
    names = ", ".join(model.expression_names[:4]) + (", .." if len(model.expression_names) > 4 else "")
    lines = {"name": model.name, "source": model.source, "licence": model.licence, "units": size,
             "vertices": f"{len(mean)}, in {len(t.triangles)} triangles"}
    found = {
        "identities": f"{len(spread)}, rms {spread.max():.2f} to {spread.min():.2f} mm" if len(spread) else "",
        "expressions": f"{len(model.expression_basis)}, {model.expression_kind}: {names}" if names else "",
        "albedo": f"{len(model.albedo_basis)} components" if _varies(model.albedo_mean) else "",
        "landmarks": f"{len(t.landmarks)}" if len(t.landmarks) else "",
        "UVs": f"{len(t.uv)}" if len(t.uv) else "",
        "regions": ", ".join(t.region_names),
    }
    lines |= {key: text for key, text in found.items() if text}
    missing = [key for key, text in found.items() if not text]
    return "\n".join(f"  {key:<12} {text}" for key, text in (lines | {"not found": ", ".join(missing) or "-"}).items())


def _varies(albedo):
    return np.ptp(np.asarray(albedo), axis=0).any()


def write(target: Path, model) -> list[str]:
    """Write a model in the format of the target's suffix; what the format has no place for."""
    from sfm_jax.morphable.formats.eos import save_eos

    if target.suffix == ".npz":
        model.save(target)
        return []
    if target.suffix == ".bin":
        save_eos(target, model)
        return ["regions, contour lines, symmetry, name and licence", *_other_landmarks(model)]
    if target.suffix == ".glb":
        return write_glb_model(target, model)
    return write_objs(target, model)


def _other_landmarks(model):
    """What is told of landmarks that are not those a format has names for."""
    count = len(model.topology.landmarks)
    return [] if count in (0, IBUG) else [f"{count} landmarks, which are not iBUG's {IBUG}"]


def write_glb_model(target: Path, model) -> list[str]:
    """One mesh with morph targets "identity 1", .. and the expressions by name; what is left out.

    Raises:
      ValueError: expressions of one name, or named as identities are.
    """
    from sfm_jax.inference.export import write_glb
    from sfm_jax.inference.glb import split_seams
    from sfm_jax.morphable.formats.files import write_bytes
    from sfm_jax.morphable.formats.gltf import IDENTITY, with_extras

    t = model.topology
    has_uv = len(t.uv) > 0
    _check_names(target, model.expression_names, model.expression_names)
    for name in model.expression_names:
        if name.startswith(IDENTITY):
            raise ValueError(f"{target}: expression {name!r}: would be taken for an identity, expected another name")
    moves = {f"{IDENTITY}{i + 1}": offsets for i, offsets in enumerate(np.asarray(model.identity_basis))}
    moves |= dict(zip(model.expression_names, np.asarray(model.expression_basis), strict=True))
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / target.name  # the mesh is named as the file
        write_glb(partial, np.asarray(model.mean), t.triangles, uv=t.uv if has_uv else None,
                  uv_triangles=t.uv_triangles if has_uv else None, morph_targets=moves)
        data = partial.read_bytes()
    rows = split_seams(t.triangles, t.uv_triangles)[0] if has_uv else np.arange(len(model.mean))
    extras = {"name": model.name, "source": model.source, "licence": model.licence,
              "expression_kind": model.expression_kind}
    left_out = ["albedo, regions and symmetry"]
    lost = len(model.mean) - len(np.unique(rows))
    if lost:
        left_out.append(f"{lost} vertices of no triangle")
    for key in ("landmarks", "contour_lines"):
        places = getattr(t, key)
        if key == "landmarks" and (others := _other_landmarks(model)):
            left_out += others
        elif np.isin(places, rows).all():
            extras[key] = np.searchsorted(rows, places).tolist()
        else:
            left_out.append(f"{key.replace('_', ' ')}, which are in no triangle")
    write_bytes(target, with_extras(data, extras))
    return left_out


def write_objs(target: Path, model) -> list[str]:
    """A folder with mean.obj, identity_001.obj .. and expression_NAME.obj, each component at one; what is left out.

    Of what is there before only the files that an earlier run wrote down in LIST are replaced or removed.

    Raises:
      ValueError: the folder cannot be made, another's file is in the way, or expressions would be one file.
    """
    from sfm_jax.inference.export import write_obj

    t, mean = model.topology, np.asarray(model.mean)
    names = [f"expression_{name}.obj".replace("/", "_") for name in model.expression_names]
    _check_names(target, model.expression_names, names)
    shapes = {"mean.obj": mean}
    shapes |= {f"identity_{i + 1:03d}.obj": mean + move for i, move in enumerate(np.asarray(model.identity_basis))}
    shapes |= {name: mean + move for name, move in zip(names, np.asarray(model.expression_basis), strict=True)}
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"{target}: cannot be made a folder ({error.strerror})") from None
    own = (target / LIST).read_text("utf-8", "replace").splitlines() if (target / LIST).is_file() else []
    there = {path.name for path in target.iterdir()}
    if others := sorted(there & set(shapes) - set(own)):
        raise ValueError(f"{target / others[0]}: is in the way, expected nothing or what an earlier run wrote")
    for name in there & set(own) - set(shapes):  # of a model with more components
        (target / name).unlink()
    (target / LIST).write_text("\n".join(shapes) + "\n", "utf-8")
    for name, vertices in shapes.items():
        write_obj(target / name, vertices, t.triangles, uv=t.uv if len(t.uv) else None,
                  uv_triangles=t.uv_triangles if len(t.uv) else None)
    return ["albedo, landmarks, contour lines, regions and symmetry"]


def _check_names(target: Path, names: Sequence[str], written: Sequence[str]) -> None:
    """ValueError if expressions would be written under one name, where one would replace the other."""
    alike = [name for name, own in zip(names, written, strict=True) if written.count(own) > 1]
    if alike:
        raise ValueError(f"{target}: expressions {', '.join(map(repr, alike))}: found more than one that would be "
                         "written under the same name, expected names that differ")


def _parser():
    from sfm_jax.morphable.formats import LOADERS

    parser = Parser(prog="python -m sfm_jax.convert", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT")
    parser.add_argument("--format", help=f"of IN, if it cannot be guessed: {', '.join(LOADERS)}")
    parser.add_argument("--identities", type=int, help="how many identity components to keep")
    for key, text in OPTIONS.items():
        parser.add_argument(f"--{key}", help=text)
    return parser


def _keys(text):
    pairs = [pair.partition(":") for pair in text.split(",")]
    if not all(part and key for part, _, key in pairs):
        raise ValueError(f"--keys: found {text!r}, expected PART:KEY,..")
    return {part: key for part, _, key in pairs}


if __name__ == "__main__":
    sys.exit(main())
