"""Sphere Face Model, stage 2: the basis goes on learning from photos, with identity codes on the hypersphere.

After Jiang et al. 2023 (CVM 9(2), arXiv 2112.02238). A quarter of each batch are photos with a person's label, the rest
photos with landmarks and 3D labels; both are rendered from the embedded population while training runs.

    python -m sfm_jax.main --config=configs/stage2.py --workdir=runs/stage2

Takes about a quarter of an hour on two CPU cores. Writes report.html, report.json and model.npz to the workdir.
From a stage-1 basis: --config.basis=runs/stage1/model.npz. On your own photos: --config.data.identity=folder:photos
(person/photo.jpg) and --config.data.landmarks=aflw:300W_LP (photos with .mat files); longer and larger:
--config.trunk=resnet50 --config.image_size=224 --config.render_size=224 --config.steps=200000 --config.batch_size=128.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.task = "photo_model"
    config.seed = 0

    # Face model and identity codes.
    config.model = "default"            # or the path of a model npz
    config.detail = 0                   # level of the embedded model: 0 has 3.6k vertices, 1 has 14k
    config.basis = ""                   # where the basis starts: a npz of stage 1; empty: the model's own components
    config.components = 64              # numbers in the identity code, where the basis is the model's own; at most its
    config.sphere = "hard"              # "hard": |z| = 1 exactly; "soft": a penalty; "gaussian": a classical 3DMM
    config.albedo_components = 24

    # Photos: "synthetic", "folder:PATH", "aflw:PATH", "tfds:NAME", "shards:PATH", or "" for none.
    config.data = ConfigDict()
    config.data.identity = "synthetic"  # photos of which only the person is known
    config.data.landmarks = "synthetic" # photos with landmarks, and 3D labels where they are known
    config.data.all = ""                # instead of both: photos whose every label is used
    config.data.identity_share = 0.25   # of each batch
    config.data.synthetic_photos = 1_000_000  # different ones
    config.data.persons = 2000          # people of the population to learn from
    config.data.heldout_persons = 200   # people only ever used for the report: the same in every run
    config.data.heldout_photos_per_person = 6
    config.data.max_bad_fraction = 0.01 # of unreadable photos, above which the run stops
    config.data.conditions = ConfigDict()  # of synthetic photos; see data/scene.py
    config.data.conditions.yaw = 90.0
    config.data.conditions.pitch = 10.0
    config.data.conditions.roll = 6.0
    config.data.conditions.expression = 0.3
    config.data.conditions.distance = (350.0, 2500.0)  # mm
    config.data.conditions.occluders = 0.15
    config.data.conditions.damage = 0.5
    config.data.conditions.grey = 0.0   # probability of a black-and-white photo

    # Network.
    config.trunk = "recognition"        # or "compact" alone, "mobile", "resnet18", "resnet34", "resnet50", "ir50"
    config.separate_heads = False       # a head each for camera, expression and light, not one for all three
    config.precision = "float32"        # of the network: "bfloat16" where the hardware has it
    config.image_size = 96              # pixels, of the crops
    config.render_size = 48             # pixels, of the renders that are compared with them
    config.rendered_photos = 8          # of each batch, evenly of all devices, that are rendered and compared; 0: all
    config.confidence = True            # maps of pixel and landmark confidence weigh the errors
    config.weighted_centre = True       # the centre term weighs photos by their confidence
    config.tolerance = ConfigDict()     # the error that counts as 1, and at which a confidence begins to fall
    config.tolerance.landmark = 0.03    # share of the crop's side
    config.tolerance.pixel = 0.1        # of sRGB in [0, 1]

    # Angular margin on cos(theta): SphereFace's m1, ArcFace's m2, CosFace's m3, and the scale.
    config.margin = ConfigDict()
    config.margin.m1 = 1.0
    config.margin.m2 = 0.0              # radians
    config.margin.m3 = 0.2
    config.margin.scale = 24.0

    # Weights of the loss terms; 0 leaves one out.
    config.loss = ConfigDict()
    config.loss.landmark = 3.0         # shares of the crop's side (over the tolerance)
    config.loss.contour = 0.0           # of the jaw alone, which slides where it is hidden; unit as landmark's
    config.loss.rotation = 1.0          # squared chordal distance
    config.loss.shape = 3.0             # mm, neutral face, where codes are known
    config.loss.expression_error = 0.5  # squared activation, where codes are known
    config.loss.pixel = 0.2             # sRGB (over the tolerance)
    config.loss.perceptual = 0.0        # distance of features of photo and render
    config.loss.identity = 0.1         # margin softmax over the training people
    config.loss.centre = 0.01           # squared distance to the person's centre
    config.loss.sphere = 1.0            # "soft" only: (|c|/r - 1)^2
    config.loss.kl = 0.01               # "gaussian" only: running moments against N(0, I)
    config.loss.prior = 0.0             # "gaussian" only: squared standard deviations of each code by itself
    config.loss.expression = 0.05       # squared activation
    config.loss.albedo = 0.002          # squared standard deviations
    config.loss.light = 0.02            # squared difference of the colour channels
    config.loss.smoothness = 0.05       # of basis columns, mm^2
    config.loss.asymmetry = 0.01        # columns neither symmetric nor antisymmetric, mm^2
    config.loss.residual = 0.05         # distance of the basis to its start, mm^2
    config.loss.norm = 0.01             # columns longer than norm_bound
    config.norm_bound = 20.0            # mm, root mean square
    config.perceptual = "trunk"         # features of the "trunk" itself, or of "face_recognition"
    config.perceptual_distance = "cosine"  # 1 - cosine; or "squared": mean squared difference
    config.contour_cap = 0.1            # share of the crop's side, beyond which a hidden jaw point does not pull
    config.moments_decay = 0.9          # running mean of the code moments ("gaussian")

    # Training.
    config.steps = 1800
    config.batch_size = 32              # over all devices
    config.executor = "pmap"            # or "shard_map"
    config.cpu_devices = 2              # as which a CPU is used; without meaning on GPU or TPU
    config.ema_decay = 0.0              # 0: off
    config.log_every = 25
    config.save_every = 250
    config.keep = 2
    config.profile = (0, 0)             # first and last step of a trace in workdir/profile; (0, 0): none
    config.optimiser = ConfigDict()
    config.optimiser.name = "adam"
    config.optimiser.learning_rate = 1e-3
    config.optimiser.schedule = "cosine"
    config.optimiser.warmup_steps = 100
    config.optimiser.weight_decay = 0.0
    config.optimiser.clip_norm = 10.0
    config.optimiser.multipliers = ConfigDict()  # learning rates relative to the network's
    config.optimiser.multipliers.basis = 0.1
    config.optimiser.multipliers.classes = 3.0
    config.optimiser.multipliers.centres = 3.0
    return config
