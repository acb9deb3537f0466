"""From a photo to the faces in it: found, encoded by a network, and, if asked, fitted to what was found.

One object does it all and keeps what is compiled. The network's answer and the fit have one form, `Reconstruction`,
which says everything in pixels of the photo and millimetres of the model.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sfm_jax.array_types import AnyArray
from sfm_jax.data.crop import crop_affine, crop_image, landmark_box, shown_part, transform_points
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.rotation import rotation_from_euler, rotation_to_euler
from sfm_jax.inference import fitting
from sfm_jax.inference.default_encoder import load_default_encoder, reframed
from sfm_jax.inference.detection import inverse_affine
from sfm_jax.inference.face import Face, FaceCodes, FaceDecoder, crop_frame
from sfm_jax.inference.face_points import DetectedFace, FaceDetector
from sfm_jax.inference.photo_fitting import PhotoFitter
from sfm_jax.inference.surface_points import load_surface_points
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import ambient

FOREIGN_SIZE = 112  # pixels of the crops where there is no network to say
POINT_SETTINGS = fitting.Settings(deviation=0.04, robust=3.0, hidden=0.2)
NETWORK_IDENTITY, NETWORK_EXPRESSION = 0.5, 0.4  # deviations of a fit from the network's answer


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """One face of a photo. Pixels: of the photo, x right, y down, the first one's centre at (0.5, 0.5). Millimetres and
    axes: of the model, x to the image's right, y up, z to the viewer.

    model; identity [K] standard deviations of its first components; z [d] the network's identity code on the unit
    sphere, for recognition (empty without a network); expression [E] as the model's, by model.expression_names;
    albedo [A] standard deviations; light [9, 3] spherical harmonics; rotation [3, 3] of the head; pose_degrees [3]:
    yaw, pitch, roll; camera [2, 4]: pixels = camera @ (x, y, z, 1) in mm; landmarks68_px [68, 2] in iBUG's order, of
    the model; face_box [4]: left, top, right, bottom of the detected points; presence, score: see DetectedFace;
    fitted: whether it was fitted, or is the network's answer.
    """

    model: MorphableModel
    identity: Float[np.ndarray, " K"]
    z: Float[np.ndarray, " d"]
    expression: Float[np.ndarray, " E"]
    albedo: Float[np.ndarray, " A"]
    light: Float[np.ndarray, "9 3"]
    rotation: Float[np.ndarray, "3 3"]
    pose_degrees: Float[np.ndarray, "3"]
    camera: Float[np.ndarray, "2 4"]
    landmarks68_px: Float[np.ndarray, "68 2"]
    face_box: Float[np.ndarray, "4"]
    presence: float
    score: float
    fitted: bool

    def vertices(self, neutral: bool = False) -> Float[np.ndarray, "V 3"]:
        """[V, 3] mm, unturned; neutral: without the expression."""
        expression = np.zeros_like(self.expression) if neutral else self.expression
        return np.asarray(self.model.decode(jnp.asarray(self.identity), jnp.asarray(expression)))

    def colours(self) -> Float[np.ndarray, "V 3"]:
        """Linear RGB [V, 3] of the skin, without light."""
        return np.asarray(self.model.albedo(jnp.asarray(self.albedo)))

    def project(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels [..., 2] of points [..., 3] in mm."""
        return points @ self.camera[:, :3].T + self.camera[:, 3]


class Crop(NamedTuple):
    """image [S, S, 3] sRGB in [0, 1]; inside [S, S]: 1 where it shows the photo, 0 beyond it; affine [2, 3] from the
    photo's pixels to the crop's; roll: degrees by which the face in the photo is turned against that in the crop,
    counter-clockwise."""

    image: Float[AnyArray, "S S 3"]
    inside: Float[AnyArray, "S S"]
    affine: Float[np.ndarray, "2 3"]
    roll: float


class Reconstructor:
    """Photos uint8 [H, W, 3] -> Reconstructions. May be used again and again: only the first photo is slow."""

    def __init__(self, model: MorphableModel | None = None, detail: int = 1, fit: bool = False,
                 detector: FaceDetector | None = None):
        """model: None is the embedded one, with the network that comes with it; what is found is shown at level
        `detail`. Another model has no network: it is fitted to the points of the photo that it has landmarks for, and
        to the photo. fit: whether the network's answer is fitted, too.

        Raises:
          ValueError: ai-edge-litert is not installed, or a damaged asset.
        """
        self.detector = detector or FaceDetector()
        self.fit = fit or model is not None
        self._encoder = None
        if model is None:
            self._encoder, self._params, self._state = load_default_encoder(0)
            self._predict = jax.jit(self._encoder.predict)
            model, surface = self._encoder.model, load_surface_points()
            components = len(self._encoder.start.basis) - 1  # the last has no geometry: see identity_space.py
            self.size, points, self._weights = self._encoder.image_size, surface, np.asarray(surface.weight)
            self.model = load_default(detail)
        else:
            self.model, self.size, points, components = model, FOREIGN_SIZE, None, len(model.identity_basis)
            self._weights = np.r_[np.zeros(17), np.ones(51)].astype(np.float32)  # the detector knows another jaw
        self._frame = *crop_frame(model)[0], crop_frame(model)[1]
        self._components = components
        self._points = fitting.point_model(model, points, components)
        self._landmarks = fitting.point_model(model, None, components)
        self._project = jax.jit(fitting.project)
        self._fit_points = jax.jit(fitting.fit_points, static_argnames="settings")
        self._fit_photo = (PhotoFitter(FaceDecoder(model, model.mean, model.identity_basis), self.size)
                           if self.fit else None)
        shown = FaceDecoder(self.model, self.model.mean, self.model.identity_basis)
        self._show = jax.jit(lambda codes: shown(reframed(codes, self._frame, self.model), self.size))

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], closest: int = 3) -> list[Reconstruction]:
        """The faces of a photo, the largest first; none: an empty list. closest: see FaceDetector.faces.

        Raises:
          ValueError: another kind of image than uint8 [H, W, 3].
        """
        return [self.face(image, found) for found in self.detector.faces(image, closest)]

    def face(self, image: UInt8[np.ndarray, "H W 3"], found: DetectedFace) -> Reconstruction:
        """A face that was found in a photo."""
        crop, seen = self.crop(image, found)
        codes, z = self.encode(crop, seen)
        if self.fit:
            codes = self._refined(crop, seen, codes)
        return self.described(codes, z, crop, found)

    def person(self, images: list[UInt8[np.ndarray, "_ _ 3"]]) -> list[Reconstruction | None]:
        """The largest face of each photo, all of one person: with one identity and albedo, fitted to the points of all
        photos. None: no face in it."""
        faces = [found[0] if (found := self.detector.faces(image)) else None for image in images]
        known = [index for index, face in enumerate(faces) if face is not None]
        if not known:
            return faces
        crops, seen = zip(*(self.crop(images[index], faces[index]) for index in known), strict=True)
        codes, z = zip(*map(self.encode, crops, seen), strict=True)
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *codes)
        prior = fitting.Prior(jnp.asarray(mean.identity), jnp.asarray(NETWORK_IDENTITY),
                              jnp.stack([one.expression for one in codes]),
                              jnp.asarray(NETWORK_EXPRESSION * self.model.expression_unit),
                              *self.model.expression_bounds)
        weights = np.tile(self._weights, (len(known), 1))
        fit = self._fit_points(self._points, jnp.asarray(np.stack(seen)), weights, prior, settings=POINT_SETTINGS)
        together = np.mean(z, 0)
        together = together / np.linalg.norm(together) if together.size else together
        results = [None] * len(images)
        for place, index in enumerate(known):
            one = FaceCodes(fit.identity, fit.expression[place], mean.albedo, fit.rotation[place], fit.log_scale[place],
                            fit.shift[place], codes[place].light)
            results[index] = self.described(one, together, crops[place], faces[index], fitted=True)
        return results

    def crop(self, image: UInt8[np.ndarray, "H W 3"], found: DetectedFace) -> tuple[Crop, Float[np.ndarray, "P 2"]]:
        """The crop around a face, as photos were cropped in training, but upright; and the observed points in it
        [P, 2], shares of its side."""
        points = found.points[:, :2] if self._encoder is not None else found.landmarks68
        corners = found.box.reshape(2, 2)
        centre, side = corners.mean(0), 2.0**0.5 * (corners[1] - corners[0]).max()
        fit = self._pose((points - centre) / side + 0.5, fitting.standard_prior(self._points, 1, 0.3, 0.15))
        roll = float(rotation_to_euler(fit.rotation[0])[2])
        # Training's box is around the 68 landmarks, jaw and all: those of a face fitted to the points.
        turn = crop_affine((centre, side), self.size, -roll)
        landmarks = transform_points(centre + side * (self._landmarks_of(fit) - 0.5), turn)
        middle, width = landmark_box(landmarks)
        middle = transform_points(middle, inverse_affine(turn))
        picture, affine = crop_image(image, (middle, side * width / self.size), self.size, -roll)
        seen = transform_points(points, affine) / self.size
        inside = shown_part(image, affine, self.size)
        return Crop(picture.astype(np.float32) / 255, inside, affine, roll), seen.astype(np.float32)

    def encode(self, crop: Crop, seen: Float[AnyArray, "P 2"]) -> tuple[FaceCodes, Float[AnyArray, " d"]]:
        """The network's answer, codes without a leading dimension, and z [d]; of a model without a network: a fit to
        points alone."""
        if self._encoder is None:
            fit = self._pose(seen, fitting.standard_prior(self._points))
            albedo = np.zeros(len(self.model.albedo_basis), np.float32)
            codes = FaceCodes(fit.identity, fit.expression[0], albedo, fit.rotation[0], fit.log_scale[0], fit.shift[0],
                              ambient().coefficients)
            return codes, np.zeros(0, np.float32)
        prediction, _ = self._predict(self._params, self._state, crop.image[None])
        codes = jax.tree.map(lambda leaf: leaf[0], prediction.codes)
        codes = codes._replace(identity=codes.identity[:self._components], expression=jnp.clip(codes.expression, 0, 1))
        return codes, np.asarray(prediction.z[0])

    def described(
        self, codes: FaceCodes, z: Float[AnyArray, " d"], crop: Crop, found: DetectedFace, fitted: bool | None = None
    ) -> Reconstruction:
        """Codes in a crop, said of the photo. fitted: None is what this object does."""
        face: Face = self._show(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], codes))
        camera = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), face.camera)
        back = inverse_affine(crop.affine)
        # pixels of the crop = linear @ point + offset
        linear = camera.scale * camera.rotation[:2] * [[1], [-1]]
        offset = camera.centre + camera.scale * camera.translation[:2] * [1, -1]
        photo = np.column_stack([back[:, :2] @ linear, back[:, :2] @ offset + back[:, 2]])
        roll = rotation_from_euler(jnp.array([0.0, 0.0, crop.roll]))
        rotation = matmul(roll, codes.rotation)
        return Reconstruction(
            self.model, *map(np.asarray, (
                codes.identity, z, codes.expression, codes.albedo, turned_light(codes.light, crop.roll), rotation,
                rotation_to_euler(rotation), photo)),
            landmarks68_px=transform_points(np.asarray(face.landmarks[0], np.float64), back), face_box=found.box,
            presence=found.presence, score=found.score, fitted=self.fit if fitted is None else fitted)

    def _refined(self, crop, seen, codes):
        """The network's answer, moved to the observed points, then to the photo."""
        if self._encoder is not None:
            prior = fitting.Prior(codes.identity, jnp.asarray(NETWORK_IDENTITY), codes.expression[None],
                                  jnp.asarray(NETWORK_EXPRESSION), *self._points.expression_bounds)
            fit = self._pose(seen, prior)
            codes = codes._replace(identity=fit.identity, expression=fit.expression[0], rotation=fit.rotation[0],
                                   log_scale=fit.log_scale[0], shift=fit.shift[0])
        return self._fit_photo(jnp.asarray(crop.image), codes, self._points, jnp.asarray(seen), self._weights,
                               jnp.asarray(crop.inside))

    def _pose(self, seen, prior):
        """A fit of codes and camera to points alone."""
        return self._fit_points(self._points, jnp.asarray(seen, jnp.float32)[None], self._weights[None], prior,
                                settings=POINT_SETTINGS)

    def _landmarks_of(self, fit):
        return np.asarray(self._project(self._landmarks, fit.identity, fit.expression[0], fit.rotation[0],
                                        fit.log_scale[0], fit.shift[0]))


def turned_light(light: Float[AnyArray, "9 3"], degrees: float) -> Float[np.ndarray, "9 3"]:
    """Spherical harmonics [9, 3], in the order of render.harmonics, of a light turned counter-clockwise about z."""
    turned = np.array(light)
    for first, second, times in ((2, 3, 1), (5, 6, 1), (7, 8, 2)):  # x and y; xz and yz; x^2 - y^2 and xy
        cosine, sine = np.cos(np.deg2rad(times * degrees)), np.sin(np.deg2rad(times * degrees))
        turned[first], turned[second] = (cosine * light[first] - sine * light[second],
                                         sine * light[first] + cosine * light[second])
    return turned
