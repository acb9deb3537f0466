"""Sphere Face Model, stage 1: an identity basis on the hypersphere, learned from 3D scans.

After Jiang et al. 2023 (CVM 9(2), arXiv 2112.02238). Scans of one person under other expressions, weights, scanner
errors and holes must meet at one unit vector z, and mean + r z.B must be that person's face.

    python -m sfm_jax.main --config=configs/stage1.py --workdir=runs/stage1

Takes about two minutes on two CPU cores. Writes report.html, report.json and model.npz to the workdir.
To train on your own registered scans: --config.data.folder=scans, a folder of person/scan.{obj,ply,npz}.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.task = "sphere_basis"
    config.seed = 0

    # Data. The population is embedded; its scans are synthesised on the fly, the same ones every time.
    config.model = "default"            # or the path of a model npz
    config.detail = 0                   # level of the embedded model: 0 has 3.6k vertices, 1 has 14k
    config.data = ConfigDict()
    config.data.folder = ""             # registered scans person/scan.{obj,ply,npz} instead of the population
    config.data.persons = 2400          # people of the population to learn from
    config.data.heldout_persons = 400   # people (of the population, or folders) only ever used for the report
    config.data.scans_per_person = 24   # of the population; held-out people get heldout_scans_per_person
    config.data.heldout_scans_per_person = 4
    config.data.capture = ConfigDict()  # how scans differ from the clean neutral face; see data/scans.py
    config.data.capture.expression = 0.35        # mean activation of an active unit
    config.data.capture.noise = 0.6              # mm
    config.data.capture.deformation = 1.5        # mm
    config.data.capture.weight = 2.0             # mm
    config.data.capture.rotation_degrees = 1.0
    config.data.capture.translation = 1.0        # mm
    config.data.capture.missing = 3              # holes a scan
    config.data.capture.missing_radius = 22.0    # mm

    # Model.
    config.components = 64              # numbers in the identity code, on the sphere and in the PCA it is compared with
    config.sphere = "hard"              # "hard": |z| = 1 exactly; "soft": a penalty; "gaussian": a classical 3DMM
    config.slack = True                 # one coordinate of z starts without geometry and gives back the lost freedom
    config.features = 384               # principal components of the scans that the encoder sees
    config.hidden = (512, 512)          # widths of the encoder

    # Angular margin on cos(theta): SphereFace's m1, ArcFace's m2, CosFace's m3, and the scale.
    config.margin = ConfigDict()
    config.margin.m1 = 1.0
    config.margin.m2 = 0.0              # radians
    config.margin.m3 = 0.2
    config.margin.scale = 24.0

    # Weights of the loss terms. Distances in mm.
    config.loss = ConfigDict()
    config.loss.neutral = 1.0           # the person's neutral face, from z alone
    config.loss.scan = 0.3              # the scan itself, from z and the expression
    config.loss.identity = 0.1          # margin softmax over the training people
    config.loss.expression = 0.02       # squared activation
    config.loss.sphere = 1.0            # "soft" only: (|c|/r - 1)^2
    config.loss.kl = 0.001              # "gaussian" only: batch moments against N(0, I)
    config.loss.smoothness = 0.05       # of basis columns, mm^2
    config.loss.asymmetry = 0.01        # columns neither symmetric nor antisymmetric, mm^2
    config.loss.start = 0.01            # distance of the basis to PCA, mm^2
    config.loss.norm = 0.01             # columns longer than norm_bound
    config.loss.norm_bound = 20.0       # mm, root mean square

    # Training.
    config.steps = 700
    config.batch_size = 128             # over all devices
    config.executor = "pmap"            # or "shard_map"
    config.ema_decay = 0.0              # 0: off
    config.log_every = 25
    config.save_every = 250
    config.keep = 2
    config.profile = (0, 0)             # first and last step of a trace in workdir/profile; (0, 0): none
    config.optimiser = ConfigDict()
    config.optimiser.name = "adam"
    config.optimiser.learning_rate = 1e-3
    config.optimiser.schedule = "cosine"
    config.optimiser.warmup_steps = 50
    config.optimiser.weight_decay = 0.0
    config.optimiser.clip_norm = 10.0
    config.optimiser.multipliers = ConfigDict()
    config.optimiser.multipliers.basis = 0.3     # the basis and the radius, relative to the encoder
    return config
