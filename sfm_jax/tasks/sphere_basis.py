"""Sphere Face Model, stage 1: learn an identity basis on the hypersphere from registered scans.

After Jiang et al. 2023 (arXiv 2112.02238). Ours are: the learned radius, the slack direction, the encoder that
starts at a classical fit, and every weight.

A scan is encoded to c [d] and e [E]; z = c/|c|; the person's face is mean + r z.B, the scan mean + r z.B + e.E.
With `sphere` = "soft", |c| is only pulled towards 1; with "gaussian", r c is a classical code whose distribution
is pulled towards N(0, I), and cosines are taken of c/|c|. All else is equal, so that the three can be compared.

The slack direction: a PCA code c of d-1 numbers is lifted onto S^(d-1) as z = (c, sqrt(r^2 - |c|^2)) / r, its last
coordinate having no geometry at first. Without it, projecting codes to the sphere loses their length.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.people import disjoint_people
from sfm_jax.data.pipeline import batches
from sfm_jax.data.scans import Capture, FolderScans, PopulationScans, ScanSource, find_people
from sfm_jax.geometry import sphere
from sfm_jax.geometry.adjacency import neighbour_table
from sfm_jax.geometry.products import matmul
from sfm_jax.inference.identity_space import check_sphere, code_and_direction
from sfm_jax.losses import basis as basis_losses
from sfm_jax.losses import distribution, identity, surface
from sfm_jax.morphable.model import MorphableModel, linear_shape
from sfm_jax.morphable.sphere_model import SphereFaceModel
from sfm_jax.morphable.statistics import best_gaussian_codes
from sfm_jax.networks.initial import first_variables
from sfm_jax.networks.scan_encoder import ScanEncoder
from sfm_jax.tasks import classical
from sfm_jax.tasks.finished import file_sources, is_sphere, limit_components, open_model
from sfm_jax.training.parallel import AXIS
from sfm_jax.training.task import Aux

SAMPLE = 4096       # training scans from which the linear start of the encoder is computed
WHITENING_SAMPLE = 1536  # of them, for the encoder's input projection
PRIOR_SAMPLE = 256  # of them, for the prior and noise level of the classical fit


class SphereBasis:
    """The task (see training/task.py), a value made from the config of configs/stage1.py."""

    def __init__(self, config):
        check_sphere(config.sphere)
        if config.components < 3:
            raise ValueError(f"components: found {config.components}, expected at least 3")
        if not 1 <= config.features < WHITENING_SAMPLE:
            raise ValueError(f"features: found {config.features}, expected 1 to {WHITENING_SAMPLE - 1}")
        self.model = open_model(config)
        if not config.data.folder:  # people made up for a model differ in no more ways than it has components
            config = limit_components(config, self.model, slack=False)
        self.config = config
        self.train_scans, self.heldout_scans = scan_sources(config, self.model)
        parts = {"learned from": self.train_scans, "held out": self.heldout_scans}
        people = {name: f"{part}, {which}" for part, scans in parts.items()
                  for name, which in scans.sources.items()} if config.data.folder else {}
        self.sources = file_sources(config, "model") | people
        self.weights = classical.metric_weights(self.model)
        self.pca_weights = classical.pca_weights(self.model)
        self.neighbours = neighbour_table(self.model.topology.triangles, len(self.weights))
        order = np.random.default_rng(config.seed).permutation(len(self.train_scans))[:SAMPLE]
        self._sample = self.train_scans.batch(order)
        self.classical = classical.fit_classical(self.train_scans, _first(self._sample, PRIOR_SAMPLE), self.model,
                                                 config.components)
        self.whitening = classical.fit_whitening(self._sample["vertices"][:WHITENING_SAMPLE], self.pca_weights,
                                                 config.features)
        self.start_basis = self._start_basis()
        self.encoder = ScanEncoder(config.components, len(self.model.expression_basis), tuple(config.hidden))

    # ------------------------------------------------------------------------------------------ training

    def dataset(self, batch_size: int, seed: int):
        """Shuffled, endless batches of scan records for this process."""
        return batches(len(self.train_scans), batch_size, seed, lambda indices, _: self.train_scans.batch(indices))

    def init(self, rng: jax.Array, batch: dict):
        """Parameters at the classical start; the state holds the encoder's fixed input projection."""
        del batch
        targets, radius = self._start_codes(self._sample["neutral"])
        _, expression = self.classical.fit(self._sample["vertices"], self.model, self.pca_weights)
        targets = np.concatenate([targets, expression], axis=1)
        kernel, bias = classical.ridge(self.whitening(self._sample["vertices"]), targets, penalty=1e-2)
        encoder = first_variables(self.encoder, rng, jnp.zeros((1, kernel.shape[0])))["params"]
        encoder["linear"] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        people, _ = self._start_codes(self.train_scans.neutral_shapes())
        params = {
            "encoder": encoder,
            "classes": sphere.normalise(jnp.asarray(people)),
            "basis": jnp.asarray(self.start_basis),
            "log_radius": jnp.log(jnp.asarray(radius, jnp.float32)),
        }
        return params, {"mean": jnp.asarray(self.whitening.mean), "basis": jnp.asarray(self.whitening.basis)}

    def param_labels(self, params: dict) -> dict:
        """The learning-rate group of each parameter: "basis", "classes" or "network"."""
        groups = {"basis": "basis", "log_radius": "basis", "classes": "classes"}
        return {key: jax.tree.map(lambda _, key=key: groups.get(key, "network"), value)
                for key, value in params.items()}

    @jax.named_scope("network")
    def encode(self, params: dict, state: dict, vertices: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Scans [B, V, 3] -> (code [B, d] for the decoder, direction z [B, d] on the sphere, expression [B, E])."""
        features = matmul(vertices.reshape(vertices.shape[0], -1) - state["mean"], state["basis"])
        raw, expression = self.encoder.apply({"params": params["encoder"]}, features)
        return *code_and_direction(raw, self.config.sphere), expression

    def loss(self, params: dict, state: dict, batch: dict, rng: jax.Array) -> tuple[jax.Array, Aux]:
        """Sum of the weighted terms of one device's batch; every term is a metric too."""
        del rng
        code, z, expression = self.encode(params, state, batch["vertices"])
        radius = jnp.exp(params["log_radius"])
        with jax.named_scope("decode"):
            neutral = linear_shape(jnp.asarray(self.classical.mean), params["basis"], radius * code)
            scan = linear_shape(neutral, self.model.expression_basis, expression)
        with jax.named_scope("losses"):
            cosine = identity.cosine_logits(z, params["classes"])
            terms = {
                "neutral": jnp.mean(surface.vertex_distance(neutral, batch["neutral"], self.weights)),
                "scan": jnp.mean(surface.vertex_distance(scan, batch["vertices"], self.weights)),
                "identity": jnp.mean(identity.margin_cross_entropy(cosine, batch["person"], **self.config.margin)),
                "expression": jnp.mean(jnp.sum((expression / self.model.expression_unit) ** 2, axis=-1)),
                **self._basis_terms(params["basis"]),
                **self._code_terms(code, radius),
            }
            total = sum(self.config.loss[name] * value for name, value in terms.items())
        accuracy = jnp.mean(jnp.argmax(cosine, axis=-1) == batch["person"])
        return total, Aux(metrics=terms | {"accuracy": accuracy, "radius": radius}, state=state)

    def _basis_terms(self, basis):
        return {
            "smoothness": basis_losses.smoothness(basis, self.neighbours),
            "asymmetry": basis_losses.asymmetry(basis, self.model.topology.symmetry),
            "start": basis_losses.distance_to_start(basis, jnp.asarray(self.start_basis)),
            "norm": basis_losses.excess_norm(basis, self.config.loss.norm_bound),
        }

    def _code_terms(self, code, radius):
        if self.config.sphere == "soft":
            return {"sphere": jnp.mean(distribution.sphere_penalty(code, 1.0))}
        if self.config.sphere == "gaussian":
            return {"kl": distribution.moments_kl(*distribution.batch_moments(radius * code, AXIS))}
        return {}

    # --------------------------------------------------------------------------------------------- start

    def _start_basis(self):
        """[d, V, 3]: PCA; with a slack direction the last column is zero."""
        basis = self.classical.basis.astype(np.float32).copy()
        if self._has_slack:
            basis[-1] = 0.0
        return basis

    def _start_codes(self, shapes):
        """Classical codes [N, d] of clean shapes [N, V, 3], lifted to the sphere where there is one; the radius."""
        used = self.config.components - int(self._has_slack)
        codes = best_gaussian_codes(shapes, self.classical.mean, self.classical.basis[:used],
                                    self.pca_weights)
        if self.config.sphere == "gaussian":
            return codes, 1.0
        lengths = np.linalg.norm(codes, axis=1)
        radius = float(np.percentile(lengths, 95) if self._has_slack else lengths.mean())
        return classical.lift_to_sphere(codes, radius) if self._has_slack else codes / radius, radius

    @property
    def _has_slack(self):
        return self.config.slack and self.config.sphere != "gaussian"

    # -------------------------------------------------------------------------------------------- result

    def learned_model(self, params: dict) -> SphereFaceModel:
        """The result: the model with its learned identity basis and radius, for unit codes, of a soft sphere too."""
        radius = jnp.exp(params["log_radius"])
        sigma = jnp.sqrt(jnp.mean(jnp.sum((radius * params["basis"]) ** 2, axis=-1), axis=-1))
        base = self.model.replace(mean=jnp.asarray(self.classical.mean), identity_basis=params["basis"],
                                  identity_sigma=sigma, name=f"{self.model.name}: sphere basis ({self.config.sphere})")
        return SphereFaceModel(base=base, radius=radius)

    def finish(self, params: dict, state: dict, workdir, run) -> dict:
        """Save model.npz, measure on held-out people, write report.html and report.json; returns the numbers."""
        from sfm_jax.tasks.sphere_report import write_report

        model = self.learned_model(params)
        if self.config.sphere == "gaussian":  # codes that are held to a standard normal law have the radius in them
            model = model.base.replace(identity_sigma=model.base.identity_sigma / model.radius)
        model.save(workdir / "model.npz")
        return write_report(self, params, state, workdir, run)


def _first(record: dict, count: int) -> dict:
    return {key: value[:count] for key, value in record.items()}


def scan_sources(config, model: MorphableModel) -> tuple[ScanSource, ScanSource]:
    """(training, held-out) scans, from config.data: a folder's, or synthetic ones of disjoint_people."""
    data = config.data
    if not data.folder:
        train, heldout = disjoint_people(model, data.persons, data.heldout_persons, config.seed, is_sphere(config))
        capture = Capture(**data.capture)
        return (PopulationScans(model, train.identity, data.scans_per_person, capture, config.seed),
                PopulationScans(model, heldout.identity, data.heldout_scans_per_person, capture, config.seed + 1))
    people = find_people(data.folder)
    # The default asks for many of the population; of a folder at most a fifth of the people is held out.
    if data.heldout_persons < 2:
        raise ValueError(f"data.heldout_persons: found {data.heldout_persons}, expected 2 or more, to be told apart")
    heldout = min(data.heldout_persons, max(len(people) // 5, 2))
    if len(people) - heldout < 2:
        raise ValueError(f"{data.folder}: found {len(people)} people, expected at least 4: two to learn, two held out")
    order = np.random.default_rng(config.seed).permutation(sorted(people))
    chosen = [{name: people[name] for name in sorted(part)} for part in (order[heldout:], order[:heldout])]
    return FolderScans(model, chosen[0]), FolderScans(model, chosen[1])
