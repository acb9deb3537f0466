"""The Siamese network: pairs of photos, of one person or of two, whose shapes are to say which.

After Luo, Tu and Xie 2019 (arXiv 1905.06505). A batch is pairs of photos, three quarters of them of one person, most
of these in two poses: their shape codes are to meet, those of two people to part.

    python -m sfm_jax.main --config=configs/siamese.py --workdir=runs/siamese

Takes about ten minutes on two CPU cores; keys that are not explained here are in configs/stage2.py. The same
network without the method's terms: --config.loss.contrastive=0 --config.loss.same_features=0. On 300W-LP, whose turned
copies of a photo are one person: --config.data.pairs=aflw:300W_LP; on your own: --config.data.pairs=folder:photos
--config.data.landmarks=aflw:300W_LP.
"""

from sfm_jax.training.config import beside


def get_config():
    config = beside(__file__, "stage2").get_config()
    config.task = "siamese"
    config.sphere = "gaussian"          # whitened codes
    config.data.identity = ""
    config.data.landmarks = ""
    config.data.pairs = "synthetic"     # photos, in pairs, with all the labels they have
    config.data.positive = 0.75         # of the pairs are of one person
    config.data.turned = 0.75           # of those are one synthetic photo, but for pose, crop and noise
    config.data.pair_list = ""          # a .csv of lines `photo, photo` instead of random pairs
    config.rival = ""                   # a finished workdir, whose numbers stand beside these in the report
    config.contrastive_margin = 0.2     # in whitened codes, where independent ones are 1 apart on average
    config.hard_negatives = 0.05        # weight of the nearest other person in the memory, relative to the pairs
    config.memory = 512                 # codes that are remembered
    config.steps = 1000
    config.loss.contrastive = 200.0     # squared distance of whitened codes
    config.loss.same_features = 1.0     # 1 - cosine of one person's features, of those that come of face recognition
    config.loss.parameters = 0.5        # squared, weighted by what a parameter does to the picture
    config.loss.identity = 0.0
    config.loss.centre = 0.0
    return config
