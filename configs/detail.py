"""Detail: UV displacement maps learned from the photo itself, on a coarse network that does not learn any more.

After Chen et al. (TIP 2020, arXiv 1910.11791), with the weights and dead zones of their code where nothing else is
said. Photos are people of the embedded population with known wrinkles; how their surface lies is the one label that
training sees, and --config.loss.true_normals=0 does without: then the photo itself is all that is learned from.

    python -m sfm_jax.main --config=configs/detail.py --workdir=runs/detail

It takes about half an hour on two CPU cores and writes report.html, report.json and, for some photos,
detail/NUMBER/ with the displacement map, a normal map, the mesh and a turntable. Coarse faces are those of the network
that comes with the package, whose training knew the first 5400 people. Any finished run on photos can be the coarse
one: --config.coarse=runs/detail_coarse, with its own data.persons. Your own photos: --config.data.all=folder:photos;
real ones in the report: --config.data.shown=aflw:AFLW2000. Finer: --config.uv_size=512 --config.image_size=512.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.task = "detail"
    config.seed = 0

    # Coarse faces.
    config.coarse = "default"           # the package's network, or the workdir of a finished run on photos
    config.model = "default"            # its face model
    config.detail = 0                   # and level

    # Photos: "synthetic", "folder:PATH", "aflw:PATH", "tfds:NAME" or "shards:PATH".
    config.data = ConfigDict()
    config.data.all = "synthetic"
    config.data.shown = ""              # real photos for the report, named as above
    config.data.shown_photos = 8
    config.data.synthetic_photos = 1_000_000
    config.data.wrinkle_size = 256      # texels along a side of the mesh that synthetic wrinkles are on
    config.data.true_shapes = 0.5       # share of synthetic photos in which the coarse face is the true one (ours)
    config.data.persons = 5400          # people of the population to learn from: the coarse network's
    config.data.heldout_persons = 200   # people only ever used for the report
    config.data.heldout_photos = 100    # that are measured, each of another person
    config.data.max_bad_fraction = 0.01
    config.data.conditions = ConfigDict()  # of synthetic photos; see data/scene.py
    config.data.conditions.yaw = 45.0
    config.data.conditions.pitch = 8.0
    config.data.conditions.roll = 6.0
    config.data.conditions.expression = 0.2
    config.data.conditions.distance = (600.0, 2500.0)  # mm
    config.data.conditions.occluders = 0.0
    config.data.conditions.damage = 0.2

    # Network.
    config.image_size = 256             # pixels, of the crops
    config.uv_size = 256                # texels along a side: a vertex in each
    config.direction = "normal"         # of displacement; or "depth", as in the paper
    config.relight = True               # fit light to the photo before anything else (ours)
    config.broadest = 30.0              # mm: broader displacement is left to the coarse face (ours); 0: none
    config.limit = 3.0                  # mm, that a displacement cannot reach
    config.widths = (8, 16, 32, 48, 64)  # of the U-Net, from the finest map; the last holds for all coarser ones
    config.precision = "float32"

    # Weights of the loss terms; 0 leaves one out.
    config.loss = ConfigDict()
    config.loss.photo = 10.0            # sRGB (theirs: 1, in a unit we do not know)
    config.loss.true_normals = 5.0      # of unit normals, on synthetic photos, which know them (ours; theirs: 0)
    config.loss.displacement = 0.05     # mm^2, capped (theirs: 0.001)
    config.loss.depth = 0.002           # mm^2, capped
    config.loss.protected = 0.002       # mm^2, capped: at brows, eyes and nose, before the mask
    config.loss.normal = 0.001          # squared difference of unit normals
    config.loss.hidden = 0.1            # mm^2, capped: where the photo shows nothing (ours)
    config.loss.map = 0.01              # mm^2, of neighbouring texels
    config.loss.vertices = 1.0          # mm
    config.loss.vertex_normals = 1.0    # of unit normals
    config.loss.triangle_normals = 1.0  # of unit normals
    config.dead_zone = ConfigDict()     # what is as smooth as this is not smoothed further
    config.dead_zone.vertices = 0.2     # mm
    config.dead_zone.vertex_normals = 1e-3
    config.dead_zone.triangle_normals = 1e-4

    # Training.
    config.steps = 1800
    config.batch_size = 2               # over all devices
    config.executor = "pmap"            # or "shard_map"
    config.cpu_devices = 2              # as which a CPU is used; without meaning on GPU or TPU
    config.ema_decay = 0.0              # 0: off
    config.log_every = 50
    config.save_every = 200
    config.keep = 2
    config.profile = (0, 0)             # first and last step of a trace in workdir/profile; (0, 0): none
    config.examples = 4                 # photos of which faces are written
    config.optimiser = ConfigDict()
    config.optimiser.name = "adam"
    config.optimiser.learning_rate = 2e-3
    config.optimiser.schedule = "cosine"
    config.optimiser.warmup_steps = 20
    config.optimiser.weight_decay = 0.0
    config.optimiser.clip_norm = 1.0
    config.optimiser.multipliers = ConfigDict()
    return config
