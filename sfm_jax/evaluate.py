"""Predictions, or a network, by the protocols of published benchmarks.

    python -m sfm_jax.evaluate --protocol=aflw2000 --truth=AFLW2000 [--predictions=DIR | --workdir=DIR] [--out=DIR]
    python -m sfm_jax.evaluate --protocol=now --truth=NoW_Dataset --predictions=DIR
    python -m sfm_jax.evaluate --protocol=verification --truth=pairs.txt --predictions=codes.npz

Protocols: aflw2000 (landmarks), now, micc, facescape, realy (meshes against scans), verification, sir (who is who),
model_quality, jitter. How files are laid out is said by the modules of sfm_jax/evaluation/protocols of these names.

The table is printed, the peers' published rows beneath; OUT has it as table.md, .tex and .csv, outcome.json,
per_sample.csv, and the curves as PNG. Intervals are by a seeded bootstrap over what is independent: single samples
or, where these share them, persons, folds of pairs or videos. Without --predictions photos are encoded: by the
network of a finished run (--workdir), or by the one that comes with the package.

Exit code 0: done; 2: bad input, one line says what.
"""

import argparse
import difflib
import os
import sys
from pathlib import Path

import numpy as np

from sfm_jax.command_line import Parser, refuse, writable

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
OWN = "network in the package"
MANY_SHAPES = ("verification", "sir", "model_quality")
OF_PHOTOS = ("aflw2000", "now", "verification", "sir")
ONLY = {"metrical": ("now",), "images": ("now",), "aligned": ("facescape",), "unit": ("now", "micc", "facescape"),
        **dict.fromkeys(("landmarks", "yaws", "first_pixel", "truth_first_pixel"), ("aflw2000",)),
        **dict.fromkeys(("photos", "fit"), OF_PHOTOS), "workdir": (*OF_PHOTOS, "model_quality"),
            "level": (*OF_PHOTOS, "model_quality"),
        "partial": ("aflw2000", "now", "micc", "facescape", "realy", "verification", "jitter"),
        "truth": ("aflw2000", "now", "micc", "facescape", "realy", "verification", "model_quality", "jitter")}


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    try:
        options = _options(argv)
        options.out = options.out or os.path.join("evaluation", options.protocol)
        out = writable(options.out)

        # JAX is imported only for a command line that is right.
        from sfm_jax.evaluation.protocols import table

        outcome = PROTOCOLS[options.protocol](options)
        written = [] if outcome is None else table.write(outcome, out)
    except (ValueError, OSError) as error:
        return refuse(error)
    if outcome is not None:
        print(table.markdown(outcome))
        print(", ".join(map(str, written)))
    return 0


def _aflw2000(options):
    from sfm_jax.evaluation.protocols import aflw2000
    from sfm_jax.evaluation.protocols.landmark_files import read_predictions
    from sfm_jax.evaluation.protocols.matching import parameter_files, photos_without_face

    truth = aflw2000.read_truth(_needed(options, "truth"), options.landmarks, options.yaws, options.truth_first_pixel)
    if options.predictions is None:
        folder = Path(options.photos or options.truth)
        photos = {name: folder / f"{name}.jpg" for name in truth.names}
        there = [name for name, path in photos.items() if path.is_file()] if options.partial else truth.names
        if not there:
            raise ValueError(f"{folder}: found none of the {len(photos)} photos, such as {photos[truth.names[0]].name}")
        faces = _Photos(options).of({name: photos[name] for name in there})
        predictions = {name: np.array([face.landmarks68 for face in some]).reshape(-1, 68, 2)
                       for name, some in faces.items()}
        return aflw2000.evaluate(truth, predictions, _title(options), True, options.partial, options.seed)
    predictions = read_predictions(options.predictions, truth.names, options.first_pixel)
    detected = bool(parameter_files(options.predictions))
    if detected:  # a photo without a face leaves no folder
        lost = photos_without_face(options.predictions)
        predictions = {name: np.empty((0, 68, 2)) for name in lost} | predictions
    return aflw2000.evaluate(truth, predictions, _title(options), detected, options.partial, options.seed)


def _verification(options):
    from sfm_jax.evaluation.protocols import verification
    from sfm_jax.evaluation.protocols.described import read_described
    from sfm_jax.evaluation.protocols.matching import photos_without_face, resolve
    from sfm_jax.evaluation.protocols.pairs import read_pairs

    pairs, title = read_pairs(_needed(options, "truth")), _title(options)
    if options.predictions is not None:
        described = read_described(options.predictions)
        lost = photos_without_face(options.predictions)  # a photo without a face leaves no folder
        described = {kind: dict.fromkeys(lost) | dict(things) for kind, things in described.items()}
    elif pairs.videos:
        raise ValueError("--predictions: are needed for a list of videos")
    else:
        photos = _photo_files(_needed(options, "photos"))
        matches = resolve(pairs.names, photos, options.photos, options.partial)
        faces = _Photos(options).of({name: photos[key] for name, key in matches.items()})
        largest = {name: some[0] if some else None for name, some in faces.items()}
        described = {kind: {name: None if face is None else getattr(face, key) for name, face in largest.items()}
                     for kind, key in (("codes", "z"), ("shapes", "neutral"))}
    rows = {f"{title}, {kind}": things for kind, things in described.items()}
    return verification.evaluate(pairs, rows, options.partial, options.seed)


def _sir(options):
    from sfm_jax.evaluation.protocols import identity
    from sfm_jax.evaluation.protocols.described import read_described
    from sfm_jax.evaluation.protocols.matching import photos_without_face

    if options.predictions is not None:
        described = read_described(options.predictions)
        if lacking := {"codes", "shapes"} - set(described):
            raise ValueError(f"{options.predictions}: found no {' and '.join(sorted(lacking))}, expected what the "
                             "reconstruct command writes, in folders by person")
        return identity.evaluate(described["codes"], described["shapes"], _title(options), seed=options.seed,
                                 lost=photos_without_face(options.predictions))
    photos = _Photos(options)
    found = photos.of(_photo_files(_needed(options, "photos")))
    lost = [name for name, some in found.items() if not some]
    faces = {name: some[0] for name, some in found.items() if some}
    return identity.evaluate({name: face.code for name, face in faces.items()},
                             {name: face.neutral for name, face in faces.items()}, _title(options), photos.metric,
                             options.seed, lost)


def _now(options):
    from sfm_jax.evaluation.protocols import now
    from sfm_jax.evaluation.protocols.matching import listed, resolve

    truth, folder, partial, lost = _needed(options, "truth"), options.predictions, options.partial, []
    if folder is None:
        names, folder = now.image_names(truth, options.images), Path(options.out) / "predictions"
        photos = _photo_files(_needed(options, "photos"))
        matches = resolve(names, photos, options.photos, partial)
        now.check_folder(folder, names)
        faces = _Photos(options).of({name: photos[key] for name, key in matches.items()})
        for name, some in faces.items():
            if some:
                neutral, topology = some[0].neutral, some[0].model.topology
                now.write_prediction(folder, name, neutral, topology.triangles,
                                     neutral[topology.landmarks[list(now.NOW_LANDMARKS)]])
        lost = [name for name, some in faces.items() if not some]
        for name in set(names) - set(faces) | set(lost):
            now.remove_prediction(folder, name)  # what an earlier run left
        if lost:
            print(f"no face found in {len(lost)} of {len(faces)} photos, which a submission needs: {listed(lost)}",
                  file=sys.stderr)
        partial = partial or bool(lost)
        if not (Path(truth) / "scans").is_dir():
            print(f"{folder}: predictions of {len(faces) - len(lost)} of {len(faces)} photos, as the challenge takes "
                  f"them; {truth} has no scans to measure them by")
            return None
    return now.evaluate(truth, folder, _title(options), options.images, UNITS[options.unit], options.metrical, partial,
                        options.seed, _progress, lost)


def _scans(protocol):
    """The function of a protocol that compares folders of meshes."""
    def measured(options):
        from sfm_jax.evaluation.protocols import facescape, micc, realy

        module = {"micc": micc, "facescape": facescape, "realy": realy}[protocol]
        extra = {"aligned": options.aligned} if protocol == "facescape" else {}
        if protocol != "realy":
            extra["unit"] = UNITS[options.unit]
        return module.evaluate(_needed(options, "truth"), _needed(options, "predictions"), _title(options),
                              partial=options.partial, seed=options.seed, progress=_progress, **extra)

    return measured


def _model_quality(options):
    from sfm_jax.data.scans import MESH_SUFFIXES, read_scan
    from sfm_jax.evaluation.protocols import model_quality
    from sfm_jax.evaluation.protocols.matching import files_by_name
    from sfm_jax.evaluation.protocols.meshes import check_millimetres
    from sfm_jax.morphable.default import load_default
    from sfm_jax.morphable.model import MorphableModel

    place = options.predictions if options.workdir is None else os.path.join(options.workdir, "model.npz")
    if place is None:
        raise ValueError("--predictions: is needed: the npz of a model, or 'default'")
    model = load_default(_level(options)) if place == "default" else MorphableModel.load(place)
    model_quality.check_identities(model, place)
    files = files_by_name(_needed(options, "truth"), MESH_SUFFIXES, "registered faces")
    faces = {name: read_scan(path, model) for name, path in files.items()}
    for name, vertices in faces.items():
        check_millimetres(vertices, files[name])
    return model_quality.evaluate(model, faces, options.name or Path(place).stem, seed=options.seed)


def _jitter(options):
    from sfm_jax.evaluation.protocols import jitter
    from sfm_jax.evaluation.protocols.matching import photos_without_face

    tracks = jitter.read_tracks(_needed(options, "predictions"))
    truth = None if options.truth is None else jitter.read_tracks(options.truth)
    flat = next(iter(tracks.values())).shape[2] == 2
    return jitter.evaluate(tracks, truth, _title(options), "px" if flat else "mm", options.partial, options.seed,
                           photos_without_face(options.predictions))


def _progress(things):
    from rich.progress import track

    things = list(things)
    return track(things, "faces", transient=True, **_shown(things))


def _shown(things):
    """How a bar is shown: to who looks on, not in what is printed."""
    from rich.console import Console

    return {"console": Console(stderr=True), "disable": len(things) < 2 or not sys.stderr.isatty()}


def _photo_files(folder):
    from sfm_jax.data.labelled_folder import PHOTO_SUFFIXES
    from sfm_jax.evaluation.protocols.matching import files_by_name

    return files_by_name(folder, PHOTO_SUFFIXES, "photos")


class _Face:
    """landmarks68 [68, 2] pixels of the photo; code [d], and its direction z [d]; neutral [V, 3] mm; model, of its
    topology."""

    def __init__(self, landmarks68, code, z, neutral, model):
        self.landmarks68, self.code, self.z, self.neutral, self.model = landmarks68, code, z, neutral, model


class _Photos:
    """Photos -> the faces in them, by the network in the package or that of a finished run.

    metric: how its codes are compared, as in a run's own report: "cosine" on a sphere, else "euclidean".
    """

    def __init__(self, options):
        import jax

        from sfm_jax.inference.reconstruction import Reconstructor
        from sfm_jax.tasks.finished import load_encoder
        from sfm_jax.training.compilation import enable_compilation_cache

        enable_compilation_cache(least_seconds=0.0)  # most of a short command is many small programs
        self.metric = "cosine"
        if options.workdir is None:
            self._reconstructor, self._encode = Reconstructor(detail=_level(options), fit=options.fit), None
            return
        if options.fit:
            raise ValueError("--fit: only of the network in the package, found --workdir as well")
        encoder, params, state = load_encoder(options.workdir, "--workdir")
        self._reconstructor = Reconstructor()
        self._reconstructor.size = encoder.image_size
        self.metric = "cosine" if encoder.sphere == "hard" else "euclidean"
        decoder = encoder.decoder(params)

        def encode(crop):
            prediction, _ = encoder.predict(params, state, crop[None])
            face = decoder(prediction.codes, encoder.image_size)
            return face.landmarks[0], prediction.code[0], prediction.z[0], face.neutral[0]

        self._encode, self._model = jax.jit(encode), encoder.model

    def of(self, photos: dict[str, Path]) -> dict[str, list[_Face]]:
        """The faces of each photo, the largest first."""
        from rich.progress import track

        from sfm_jax.data.photo_sets import decode, read_file

        pairs = track(photos.items(), "photos", total=len(photos), transient=True, **_shown(photos))
        return {name: self._faces(decode(read_file(path), str(path))) for name, path in pairs}

    def _faces(self, image):
        from sfm_jax.data.crop import transform_points
        from sfm_jax.inference.detection import inverse_affine

        if self._encode is None:
            return [_Face(face.landmarks68_px, face.z, face.z, face.vertices(neutral=True), face.model)
                    for face in self._reconstructor(image)]
        faces = []
        for found in self._reconstructor.detector.faces(image):
            crop, _ = self._reconstructor.crop(image, found)
            landmarks, *others = map(np.asarray, self._encode(crop.image))
            landmarks = transform_points(landmarks.astype(np.float64), inverse_affine(crop.affine))
            faces.append(_Face(landmarks, *others, self._model))
        return faces


def _title(options):
    """What the measured row is called."""
    if options.predictions is not None:
        return options.name or Path(options.predictions).resolve().name.removesuffix(".npz").removesuffix(".npy")
    kind = OWN if options.workdir is None else Path(options.workdir).resolve().name
    return options.name or f"{kind}{', fitted' if options.fit else ''}"


def _level(options):
    """Of the embedded mesh: the finer one, but where shapes of thousands of photos are kept."""
    return int(options.protocol not in MANY_SHAPES) if options.level is None else options.level


def _needed(options, key):
    value = getattr(options, key)
    if value is None:
        instead = ", or --predictions" if key == "photos" else ""
        raise ValueError(f"--{key}{instead}: is needed for --protocol={options.protocol}")
    return value


PROTOCOLS = {"aflw2000": _aflw2000, "now": _now, "micc": _scans("micc"), "facescape": _scans("facescape"),
             "realy": _scans("realy"), "verification": _verification, "sir": _sir, "model_quality": _model_quality,
             "jitter": _jitter}


def _protocol(name):
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name.lower(), PROTOCOLS, 1, 0.5)
        raise argparse.ArgumentTypeError(f"found {name!r}{f', did you mean {near[0]}' if near else ''}? expected one "
                                         f"of {', '.join(PROTOCOLS)}")
    return name


def _options(argv):
    parser = Parser(prog="python -m sfm_jax.evaluate", usage="%(prog)s --protocol=NAME [options]", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--protocol", required=True, type=_protocol, metavar="NAME", help=f"one of {', '.join(PROTOCOLS)}")
    add("--truth", help="scans, labels or pairs of the benchmark, as published")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--predictions", help="files by name; what the reconstruct command writes will do")
    source.add_argument("--workdir", help="of a finished run on photos, whose network is asked")
    add("--photos", help="folder of the photos that a network encodes (aflw2000: --truth by default)")
    add("--out", help="folder for the results (default: evaluation/PROTOCOL)")
    add("--name", help="of the measured row in the table")
    add("--partial", action="store_true", help="compare what both sides have, whatever else there is")
    add("--seed", type=int, default=0, help="of the bootstrap and of subsets (default: 0)")
    add("--fit", action="store_true", help="fit the answer of the package's network to each photo")
    add("--level", type=int, choices=(0, 1),
        help=f"of the embedded mesh (default: 1; 0 for {', '.join(MANY_SHAPES)})")
    add("--unit", choices=tuple(UNITS), default="mm", help="of predicted meshes (default: mm)")
    add("--metrical", action="store_true", help="now: sizes count, no scale is aligned")
    add("--images", help="now: another list of images than the truth's")
    add("--aligned", action="store_true", help="facescape: take meshes as they are")
    add("--landmarks", help="aflw2000: other true landmarks, a folder or .npy [N, 68, 2] or [N, 3, 68]")
    add("--yaws", help="aflw2000: other true yaws, a .npy [N] of degrees")
    add("--first-pixel", type=float, default=0.5, metavar="X",
        help="aflw2000: the centre of the first pixel in --predictions (default: 0.5)")
    add("--truth-first-pixel", type=float, default=1.0, metavar="X", help="the same in --landmarks (default: 1)")
    options = parser.parse_args(argv)
    _check(options, parser)
    options.name = options.name and " ".join(options.name.split())
    return options


def _check(options, parser):
    """ValueError where options do not go together."""
    for key, protocols in ONLY.items():
        if options.protocol not in protocols and getattr(options, key) != parser.get_default(key):
            parser.error(f"--{key.replace('_', '-')}: found with --protocol={options.protocol}, expected with "
                         f"{', '.join(protocols)} only")
    for key in ("photos", "fit"):
        if options.predictions is not None and getattr(options, key):
            parser.error(f"--{key}: found with --predictions, expected without: no photo is encoded")
    if options.level is not None and (options.workdir or options.predictions not in (None, "default")):
        parser.error("--level: found with --workdir or --predictions, expected with the embedded model alone")
    if options.seed < 0:
        parser.error(f"--seed: found {options.seed}, expected 0 or more")
    for key in ("first_pixel", "truth_first_pixel"):
        if not np.isfinite(getattr(options, key)):
            parser.error(f"--{key.replace('_', '-')}: found {getattr(options, key)}, expected a number of pixels")


if __name__ == "__main__":
    sys.exit(main())
