"""Cycle-consistency: what changes between two frames of a clip is put into a face, read from it, and taken out again.

After Yang et al., IEEE TMM 26 (2023). A batch is pairs of frames, known by their landmarks alone: photos of one person
in two poses and expressions, which the network has to tell apart by itself.

    python -m sfm_jax.main --config=configs/cycle.py --workdir=runs/cycle

Takes about ten minutes on two CPU cores; keys that are not explained here are in configs/stage2.py. The same network
without the method's terms: --config.cycled_pairs=0. On your own clips: --config.data.clips=frames:clips
(clips/<clip>/000001.jpg) or --config.data.clips=videos:films (needs PyAV: pip install av).
"""

from sfm_jax.training.config import beside


def get_config():
    config = beside(__file__, "stage2").get_config()
    config.task = "cycle"
    config.sphere = "gaussian"
    config.data.identity = ""
    config.data.landmarks = ""
    config.data.clips = "synthetic"     # clips of one person moving, of which landmarks are known
    config.data.clip_frames = 32        # of a synthetic clip
    config.data.conditions.distance = (600.0, 2500.0)  # mm; what nearer cameras distort landmarks alone do not explain
    config.rival = ""                   # a finished workdir, whose numbers stand beside these in the report
    config.trunk = "compact"
    config.separate_heads = True
    config.steps = 800
    config.cycled_pairs = 8             # of each batch, evenly of all devices; 0: none, without the method's terms
    config.loss.kl = 0.0                # without labels it would make up people
    config.loss.prior = 0.0005          # squared standard deviations
    config.loss.expression = 0.005
    config.loss.rotation = 0.0
    config.loss.shape = 0.0
    config.loss.expression_error = 0.0
    config.loss.identity = 0.0
    config.loss.centre = 0.0
    config.loss.cycle_identity = 4.0    # squared difference of codes, mean
    config.loss.cycle_expression = 1.0  # squared activation
    config.loss.cycle_pose = 2.0        # squared radians
    config.loss.cycle_albedo = 1.0      # squared standard deviations, mean
    config.loss.cycle_return = 0.2      # sRGB (over the tolerance)
    config.loss.swap = 0.1              # sRGB (over the tolerance)
    config.loss.swap_landmark = 0.2     # shares of the crop's side (over the tolerance)
    return config
