"""What peers report under the same protocols, each row with where it is from. Numbers of one table are comparable only
as far as the sets and the truths are the same: read a row's source."""

from sfm_jax.evaluation.protocols.outcome import Estimate, Row

_BINS = ("0-30", "30-60", "60-90", "mean")
_SOURCES = {
    "3DDFA": "Zhu et al., CVPR 2016",
    "DAMDNet": "as reported by its authors (Jiang, Wu & Kittler, ICCVW 2019)",
    "2DASL": "as reported by its authors (Tu et al., TMM 2020)",
    "PFRRNet": "as reported by its authors (github.com/Ray-tju/PFRRNet)",
}


def _row(name, source, columns, values):
    return Row(name, {column: Estimate(value) for column, value in zip(columns, values, strict=True)}, source)


AFLW2000 = (
    _row("3DDFA", _SOURCES["3DDFA"], _BINS, (3.78, 4.54, 7.93, 5.42)),
    _row("DAMDNet", _SOURCES["DAMDNet"], _BINS, (2.91, 3.83, 4.95, 3.90)),
    _row("2DASL", _SOURCES["2DASL"], _BINS, (2.75, 3.46, 4.45, 3.55)),
    _row("PFRRNet", _SOURCES["PFRRNet"], _BINS, (2.62, 3.38, 4.34, 3.45)),
    _row("3DDFA_V2", "Guo et al., ECCV 2020", ("mean",), (3.51,)),
)

_NOW = "NoW test set, non-metrical; as listed by github.com/sicxu/Deep3DFaceRecon_pytorch"
_MOMENTS = ("median", "mean", "std")
NOW = (
    _row("DECA (Feng et al. 2021)", _NOW, _MOMENTS, (1.09, 1.38, 1.18)),
    _row("Deep3D, PyTorch (Deng et al. 2019)", _NOW, _MOMENTS, (1.11, 1.41, 1.21)),
    _row("RingNet (Sanyal et al. 2019)", _NOW, _MOMENTS, (1.21, 1.53, 1.31)),
    _row("3DDFA_V2 (Guo et al. 2020)", _NOW, _MOMENTS, (1.23, 1.57, 1.39)),
    _row("PRNet (Feng et al. 2018)", _NOW, _MOMENTS, (1.50, 1.98, 1.88)),
)

MICC = (
    _row("Deep3D, PyTorch (Deng et al. 2019)", "Deep3D's protocol; github.com/sicxu/Deep3DFaceRecon_pytorch",
         ("mean", "std"), (1.53, 0.45)),
    _row("Deep3D, TensorFlow (Deng et al. 2019)", "Deep3D's protocol; github.com/sicxu/Deep3DFaceRecon_pytorch",
         ("mean", "std"), (1.67, 0.50)),
)

# By the benchmark's own code, which asks more of the pose: see `facescape`.
FACESCAPE = (
    _row("Chen et al. (TIP 2020), self-supervised detail",
         "FaceScape's wild photos, by its own code (Zhu et al., TPAMI 2023): mean of eval_result/fswild_UDL of "
         "github.com/zhuhao-nju/facescape", ("chamfer mm", "done %"), (3.28, 87.0)),
)
