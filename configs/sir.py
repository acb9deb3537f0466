"""Shape identity-aware regularisation (SIR): Gaussian codes, recognition terms and mixed labels.

After Jiang et al. 2022 (CGF, arXiv 2104.03515). A quarter of each batch are photos with a person's label, the rest
photos with landmarks and 3D labels. Margin softmax parts people, the weighted centre term gathers each, and the
distribution of codes over the whole batch is held to N(0, I), so that distances between codes carry over to the shapes.

    python -m sfm_jax.main --config=configs/sir.py --workdir=runs/sir

Takes about a quarter of an hour on two CPU cores; every key is explained in configs/stage2.py.
"""

from sfm_jax.training.config import beside


def get_config():
    config = beside(__file__, "stage2").get_config()
    config.sphere = "gaussian"
    config.loss.kl = 0.01
    config.loss.identity = 0.05
    config.loss.centre = 0.02
    return config
