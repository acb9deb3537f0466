"""From photos to faces.

    python -m sfm_jax.reconstruct PHOTO|FOLDER|VIDEO ... [--out=faces] [--fit] [--person] [--detail] [--level=1]
                                  [--model=npz]

For every face of every photo a folder OUT/PHOTO_1 with its mesh (face.obj, face.ply, face.glb), its parameters
(params.json, params.npz) and a picture (overlay.png); with --detail its wrinkles too (detail.png, and in detail/ a
displacement map, a normal map, detailed meshes and a turntable); for a video one of the face in it, frame by frame;
OUT/index.html to look at; and OUT/no_face.json, the names of photos without a face, if there are such. Nothing is
downloaded: the networks come with the package.

In Python `sfm_jax.reconstruct(image)` does the same without files: this module may be called.

Exit code 0: done; 2: bad input, one line says what; 3: a photo has no face in it. With several photos each that
fails gets a line, the others are done all the same, and the code is that of the first.
"""

import functools
import os
import sys
import types
from pathlib import Path

from sfm_jax.command_line import OTHER_FORMATS, Parser, refuse, writable

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
NO_FACE = "no face found"
LEVEL = 1  # of the embedded model's mesh


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    try:
        options = _options(argv)
        sources = find_sources(options.inputs)
        if options.person and options.fit:
            raise ValueError("--fit: found with --person, which fits the points of all photos, expected one of them")
        if options.level is not None and options.model != "default":
            raise ValueError(f"--level: found --model={options.model}, expected the embedded face model, whose it is")
        out = writable(options.out)
    except (ValueError, OSError) as error:
        return refuse(error)

    # JAX is imported only for a command line that is right.
    from sfm_jax.inference.result_files import write_page
    from sfm_jax.training.compilation import enable_compilation_cache

    enable_compilation_cache(least_seconds=0.0)  # most of a short command is many small programs
    try:
        worker = _Worker(out, options)
    except (ValueError, OSError) as error:
        return refuse(error)
    entries, code = [], 0
    for entry, failed in worker.person(sources) if options.person else worker.all(sources):
        entries.append(entry)
        code = code or failed
    try:
        write_page(out / "index.html", entries)
    except OSError as error:
        return refuse(error)
    _say(f"{out / 'index.html'}: {sum(len(entry.faces) for entry in entries)} faces")
    return code


def reconstruct(image, *, fit: bool = False, model=None, detail: int = LEVEL, closest: int = 3) -> list:
    """The faces of a photo, the largest first: a list of inference.reconstruction.Reconstruction.

    Args:
      image: a file's path, or uint8 [H, W, 3] RGB.
      fit: fit the network's answer to the photo: seconds instead of a tenth of one.
      model: another MorphableModel than the embedded one.
      detail: level of the embedded model, 0 or 1.
      closest: how closely to look for small faces; see FaceDetector.faces.

    Raises:
      ValueError: not a photo, or ai-edge-litert is not installed.
    """
    return _reconstructor(_Itself(model), detail, fit)(read_photo(image), closest)


class _Itself:
    """Something without a hash, such as a model, as a key: equal to itself alone."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value is other.value

    def __hash__(self):
        return id(self.value)


@functools.lru_cache(maxsize=4)
def _reconstructor(model, detail, fit):
    from sfm_jax.inference.reconstruction import Reconstructor

    return Reconstructor(model.value, detail, fit)


def read_photo(source):
    """uint8 [H, W, 3] of a file's path; arrays pass through. ValueError names the file."""
    from sfm_jax.data.photo_sets import decode, read_file

    return decode(read_file(Path(source)), str(source)) if isinstance(source, str | os.PathLike) else source


def find_sources(inputs: list[str]) -> list[Path]:
    """Photos and videos of the command line; of a folder those in it, by name. ValueError: there are none."""
    from sfm_jax.data.frames import VIDEO_SUFFIXES

    sources = []
    for name in inputs:
        path = Path(name)
        if not os.path.exists(path):  # Path.exists raises for names that are too long
            raise ValueError(f"{path}: no such file or folder")
        if not path.is_dir():
            sources.append(path)
            continue
        found = sorted(file for file in path.iterdir()
                       if file.suffix.lower() in (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) and not file.name.startswith("."))
        if not found:
            raise ValueError(f"{path}: found no photos or videos, expected files {', '.join(PHOTO_SUFFIXES)}")
        sources += found
    return sources


class _Worker:
    """Reconstructs one source after the other into files."""

    def __init__(self, out, options):
        from sfm_jax.inference.reconstruction import Reconstructor
        from sfm_jax.inference.texture import Texturer

        self._detailer = _detailer(options.model) if options.detail else None
        model = None if options.model == "default" else _model(options.model)
        self._level = 0 if model is not None else LEVEL if options.level is None else options.level
        self._out, self._options = out, options
        try:
            self._reconstructor = Reconstructor(model, self._level, options.fit)
        except ValueError as error:
            raise ValueError(str(error) if model is None else f"--model: {options.model}: {error}") from None
        shown = self._reconstructor.model
        self._texturer = Texturer(shown) if len(shown.topology.uv) else None

    def all(self, sources):
        """(the page's entry, exit code) of each photo or video, one after the other."""
        from rich.progress import track

        from sfm_jax.inference.result_files import settle

        pairs = list(zip(sources, _names(sources), strict=True))
        for source, name in track(pairs, "faces", transient=True, disable=len(pairs) < 2):
            try:
                faces = self._video(source, name) if _is_video(source) else self._photo(source, name)
                settle(self._out, name, len(faces))
            except (ValueError, OSError) as error:
                yield _failed(source, error)
            else:
                yield self._told(source, faces)

    def person(self, sources):
        """As `all`, of photos that show one person: the largest face of each."""
        from sfm_jax.inference.result_files import settle

        photos = []
        for source, name in zip(sources, _names(sources), strict=True):
            try:
                if _is_video(source):
                    raise ValueError(f"{source}: a video, expected photos with --person")
                photos.append((source, name, read_photo(source)))
            except ValueError as error:
                yield _failed(source, error)
        found = self._reconstructor.person([image for *_, image in photos])
        for (source, name, image), face in zip(photos, found, strict=True):
            try:
                faces = [] if face is None else [self._write(f"{name}_1", image, face)]
                settle(self._out, name, len(faces))
            except (ValueError, OSError) as error:
                yield _failed(source, error)
            else:
                yield self._told(source, faces)

    def _told(self, source, faces):
        from sfm_jax.inference.result_files import Entry

        if not faces:
            print(f"sfm_jax: {source}: {NO_FACE}", file=sys.stderr)
            return Entry(str(source), problem=NO_FACE), 3
        _say(f"{source}: {', '.join(str(self._out / face) for face in faces)}")
        return Entry(str(source), faces), 0

    def _photo(self, source, name):
        image = read_photo(source)
        return [self._write(f"{name}_{number}", image, found)
                for number, found in enumerate(self._reconstructor(image), 1)]

    def _write(self, folder, image, found):
        """Files of a face; the folder's name."""
        from sfm_jax.inference.result_files import write_face

        texture = self._texturer and self._texturer(image, found)
        write_face(self._out / folder, image, found, texture, self._options.model, self._level, self._detailer)
        return folder

    def _video(self, source, name):
        from sfm_jax.inference.video import reconstruct_video, write_video

        found = reconstruct_video(self._reconstructor, source)
        if found is None:
            return []
        write_video(self._out / f"{name}_1", source, found, self._texturer, self._options.model, self._level,
                    self._detailer)
        return [f"{name}_1"]


def _model(path):
    from sfm_jax.morphable.model import MorphableModel

    try:
        return MorphableModel.load(path)
    except ValueError as error:
        raise ValueError(f"--model: {error}; {OTHER_FORMATS}") from None


def _detailer(model):
    from sfm_jax.inference.default_detail import load_default_detail
    from sfm_jax.inference.photo_detail import PhotoDetailer

    if model != "default":
        raise ValueError(f"--detail: found --model={model}, expected the embedded face model, whose detail is learned")
    return PhotoDetailer(*load_default_detail())


def _say(line):
    print(line.encode(errors="backslashreplace").decode())  # names of files may be no UTF-8


def _is_video(source):
    from sfm_jax.data.frames import VIDEO_SUFFIXES

    return source.suffix.lower() in VIDEO_SUFFIXES


def _failed(source, error):
    from sfm_jax.inference.result_files import Entry

    return Entry(str(source), problem=str(error)), refuse(error)


def _names(sources):
    """A name for each source's folders: its own without the ending, numbered where two have the same."""
    names, taken = [], set()
    for source in sources:
        name, count = source.stem, 1
        while name in taken:
            count += 1
            name = f"{source.stem}-{count}"
        taken.add(name)
        names.append(name)
    return names


def _options(argv):
    parser = Parser(prog="python -m sfm_jax.reconstruct", description=__doc__.split("\n\n")[0])
    parser.add_argument("inputs", nargs="+", metavar="PHOTO|FOLDER|VIDEO")
    parser.add_argument("--out", default="faces", help="folder for the results (default: faces)")
    parser.add_argument("--fit", action="store_true", help="fit the network's answer to the photo")
    parser.add_argument("--person", action="store_true", help="the photos show one person: one identity, fitted")
    parser.add_argument("--detail", action="store_true", help="wrinkles and folds too, as a displacement map")
    parser.add_argument("--level", type=int, choices=(0, 1), help=f"of the embedded mesh (default: {LEVEL})")
    parser.add_argument("--model", default="default", metavar="NPZ", help="another face model; it is fitted")
    return parser.parse_args(argv)


class _Callable(types.ModuleType):
    """So that `sfm_jax.reconstruct(image)` works whether or not this module was imported."""

    def __call__(self, image, **options):
        return reconstruct(image, **options)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
