"""Learning from photos: stage 2 of the Sphere Face Model, and SIR. One task; its config says which.

After Jiang et al. 2023 (SFM, arXiv 2112.02238) and Jiang et al. 2022 (SIR, arXiv 2104.03515). A photo is encoded to
an identity code, expression, pose, albedo and light; they are decoded with an identity basis that keeps learning, at
a lower rate, as a residual on where it started; the face is rendered and compared with the photo. Photos with a
person's label shape the identity codes, photos with landmarks and 3D labels the geometry: a batch has both, and no
term sees a label that its photo does not carry. Ours are the hard sphere with a learned radius, the camera, the
tolerances of the confidences and every weight.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.mixture import Mixture
from sfm_jax.inference import identity_space
from sfm_jax.inference.face import FaceDecoder
from sfm_jax.inference.photo_encoder import PhotoEncoder, Prediction
from sfm_jax.losses.identity import padded_classes
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel
from sfm_jax.networks.face_recognition import align_faces, face_features, load_face_recognition
from sfm_jax.tasks import classical, photo_data
from sfm_jax.tasks.finished import file_sources, limit_components, open_photo_model
from sfm_jax.tasks.photo_terms import PERCEPTUAL_DISTANCES, Terms
from sfm_jax.training.parallel import AXIS, host
from sfm_jax.training.task import Aux
from sfm_jax.training.workdir import CONFIG_FILE, flat_settings, flatten

PERCEPTUAL = ("trunk", "face_recognition")
# Settings, and groups of them, that say on which photos a report measures.
HELD_OUT = ("seed", "model", "detail", "image_size", "data.heldout_", "data.conditions.", "data.wrinkle_size")


class PhotoModel:
    """The task (see training/task.py), a value made from the config of configs/stage2.py or configs/sir.py."""

    def __init__(self, config):
        identity_space.check_sphere(config.sphere)
        if config.albedo_components < 0:
            raise ValueError(f"albedo_components: found {config.albedo_components}, expected 0 or more")
        self.model = open_photo_model(config)
        self.config = config = limit_components(config, self.model)
        self.people = photo_data.split_people(config, self.model)
        self.mixture: Mixture = photo_data.training_mixture(config, self.model, self.people.train)
        self.start = identity_space.start_basis(config, self.model, self.people.codes)
        self.sources = file_sources(config, "model", "basis", "data.pair_list") | self.mixture.sources()
        self.weights = classical.metric_weights(self.model)
        self.encoder = PhotoEncoder(config, self.model, self.start, AXIS)
        for key, choices in (("perceptual", PERCEPTUAL), ("perceptual_distance", PERCEPTUAL_DISTANCES)):
            if config[key] not in choices:
                raise ValueError(f"{key}: found {config[key]!r}, expected one of {', '.join(choices)}")
        self.recogniser = load_face_recognition() if config.perceptual == "face_recognition" else None
        self.rival, self.rival_differs = read_rival(config)
        self.terms = Terms(config, self.model, self.start, self.weights, self.mixture.persons)

    @property
    def title(self) -> str:
        """Of the report."""
        return ("Shape identity-aware regularisation" if self.config.sphere == "gaussian"
                else "Sphere Face Model, stage 2: learning from photos")

    # ------------------------------------------------------------------------------------------ training

    def dataset(self, batch_size: int, seed: int):
        """Endless batches {part: ...} for this process (data/mixture.py)."""
        return self.mixture.dataset(batch_size, seed)

    def init(self, rng: jax.Array, batch: dict):
        """The network at the mean face, the basis at its start, every person at the mean face's code."""
        del batch
        network_rng, class_rng = jax.random.split(rng)
        variables = self.encoder.init(network_rng)
        dimension = len(self.start.basis)
        # People begin around the mean face: spread evenly they would tear its codes apart before there is geometry.
        count = padded_classes(self.mixture.persons)
        # On the host: whole, the tables may be too large for another device.
        noise = np.asarray(jax.random.normal(jax.device_put(class_rng, host()), (count, dimension)))
        code = np.asarray(self.start.code, np.float32)
        classes = code + 0.3 * noise / dimension**0.5
        params = {
            "network": variables["params"],
            "residual": jnp.zeros_like(jnp.asarray(self.start.basis)),
            "log_radius": jnp.log(jnp.float32(self.start.radius)),
            "classes": classes,
            "centres": np.broadcast_to(code, classes.shape),
        }
        return params, {"batch_stats": variables.get("batch_stats", {}), "moments": self.terms.first_moments()}

    def param_labels(self, params: dict) -> dict:
        """The learning-rate group of each parameter: "basis", "classes", "centres" or "network"."""
        groups = {"residual": "basis", "log_radius": "basis", "classes": "classes", "centres": "centres"}
        return {key: jax.tree.map(lambda _, key=key: groups.get(key, "network"), value)
                for key, value in params.items()}

    def split(self, params: dict) -> dict:
        """The tables with a row for every person are split over the devices."""
        return {key: jax.tree.map(lambda _, key=key: key in ("classes", "centres"), value)
                for key, value in params.items()}

    def loss(self, params: dict, state: dict, batch: dict, rng: jax.Array) -> tuple[jax.Array, Aux]:
        """Sum of the weighted terms of one device's photos; every term is a metric too."""
        del rng
        record = jax.lax.stop_gradient(self.mixture.records(batch))
        prediction, batch_stats = self.predict(params, state, record["image"], train=True)
        with jax.named_scope("losses"):
            values, new, extra = self.measure(params, state, prediction, record)
            total = sum(self.config.loss[name] * value for name, value in values.items())
        return total, Aux(metrics=values | extra, state={"batch_stats": batch_stats, **new})

    def measure(self, params: dict, state: dict, prediction: Prediction, record: dict) -> tuple[dict, dict, dict]:
        """({name: value} of the terms, the new state but for batch statistics, {name: value} to be logged)."""
        values, moments, extra = self.terms(params, state["moments"], self.decoder(params), prediction, record,
                                            lambda *seen: self.features(params, state, *seen))
        return values, {"moments": moments}, extra

    # ---------------------------------------------------------------------------------------- prediction

    def predict(self, params: dict, state: dict, images: jax.Array, train: bool = False):
        """sRGB crops [B, S, S, 3] in [0, 1] -> (Prediction, new batch statistics)."""
        return self.encoder.predict(params, state, images, train)

    def features(self, params: dict, state: dict, images: jax.Array, landmarks: jax.Array) -> jax.Array:
        """Features [B, F] of crops by which photo and render are compared; what makes them does not learn from it."""
        if self.recogniser is not None:
            return face_features(self.recogniser, align_faces(images, jax.lax.stop_gradient(landmarks)))
        return self.encoder.features(params, state, images)

    def decoder(self, params: dict) -> FaceDecoder:
        """Codes -> faces with the basis as learned so far."""
        return self.encoder.decoder(params)

    # -------------------------------------------------------------------------------------------- result

    def learned_model(self, params: dict) -> SphereFaceModel | MorphableModel:
        """The result: the model with its learned identity basis, and radius where codes live on a sphere."""
        basis, gaussian = self.start.basis + params["residual"], self.config.sphere == "gaussian"
        # The codes that are held to a standard normal law have the radius in them.
        radius = 1.0 if gaussian else jnp.exp(params["log_radius"])
        sigma = jnp.sqrt(jnp.mean(jnp.sum((radius * basis) ** 2, axis=-1), axis=-1))
        base = self.model.replace(mean=jnp.asarray(self.start.mean), identity_basis=basis, identity_sigma=sigma,
                                  name=f"{self.model.name}: learned from photos ({self.config.sphere})")
        return base if gaussian else SphereFaceModel(base=base, radius=radius)

    def examine(self, examination) -> dict[str, float]:
        """What the report measures of this method beyond held-out photos; examination: photo_measures.Examination."""
        from sfm_jax.tasks.photo_measures import measure_over_yaw

        return measure_over_yaw(examination)

    def illustrate(self, report, params: dict, state: dict, numbers: dict) -> None:
        """Add to the report what only this method has to show."""

    def finish(self, params: dict, state: dict, workdir, run) -> dict:
        """Save model.npz, measure on held-out people, write report.html and report.json; returns the numbers."""
        from sfm_jax.tasks.photo_report import write_report

        self.learned_model(params).save(workdir / "model.npz")
        return write_report(self, params, state, workdir, run)


def read_rival(config) -> tuple[dict[str, float], list[str]]:
    """The numbers of the finished run in config.rival, to be shown beside this one's, none if there is no such key or
    it is empty; and the settings of its held-out photos that are not this config's, "KEY: there THIS, here THAT".
    ValueError: no report there, or one without a measure that can stand beside this run's."""
    if not config.get("rival"):
        return {}, []
    from sfm_jax.tasks.photo_report import COMPARED  # which needs all of matplotlib

    numbers, theirs = (_read_json(Path(config.rival) / name) for name in ("report.json", CONFIG_FILE))
    if not any(name.split("/")[0] in COMPARED for name in numbers):
        raise ValueError(f"rival: {config.rival}: found no measures of {', '.join(COMPARED)}, expected another run on "
                         "photos")
    here, there = flat_settings(config), flatten(theirs)
    keys = sorted(key for key in here | there if key.startswith(HELD_OUT))
    return numbers, [f"{key}: there {there.get(key)}, here {here.get(key)}" for key in keys
                     if there.get(key) != here.get(key)]


def _read_json(path):
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"rival: {path}: not a readable report ({error})") from None
