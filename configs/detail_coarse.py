"""The coarse network of learned detail: shape, colour, pose and light from landmarks and the photo itself.

After Chen et al. (TIP 2020, arXiv 1910.11791): weighted landmarks, a contour that slides where it is hidden, the
picture, features of face recognition, and small codes. No 3D label is used.

    python -m sfm_jax.main --config=configs/detail_coarse.py --workdir=runs/detail_coarse

Takes about ten minutes on two CPU cores; keys that are not explained here are in configs/stage2.py. Then
configs/detail.py learns detail on top of it. On 300W-LP: --config.data.landmarks=aflw:300W_LP.
"""

from sfm_jax.training.config import beside


def get_config():
    config = beside(__file__, "stage2").get_config()
    config.sphere = "gaussian"          # codes in standard deviations
    config.data.identity = ""
    config.data.conditions.yaw = 60.0
    config.data.conditions.distance = (600.0, 2500.0)  # mm
    config.data.conditions.occluders = 0.0
    config.trunk = "compact"
    config.steps = 800
    config.rendered_photos = 4
    config.perceptual = "face_recognition"
    config.perceptual_distance = "squared"
    # Weights stand to each other as the paper's where errors are measured alike; how much a landmark counts is ours.
    config.loss.landmark = 3.0          # shares of the crop's side (over the tolerance)
    config.loss.contour = 1.5           # half of that (theirs: 1 and 0.5)
    config.loss.pixel = 0.3             # sRGB (over the tolerance)
    config.loss.perceptual = 0.8        # theirs
    config.loss.prior = 0.006           # squared standard deviations (theirs: 3)
    config.loss.expression = 0.02       # squared activation (theirs: 10)
    config.loss.albedo = 0.002          # squared standard deviations (theirs: 1)
    config.loss.kl = 0.0
    config.loss.rotation = 0.0
    config.loss.shape = 0.0
    config.loss.expression_error = 0.0
    config.loss.identity = 0.0
    config.loss.centre = 0.0
    return config
