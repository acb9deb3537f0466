"""Faces and their points against renders, whose landmarks are known, and the detector's arithmetic by hand.

SFM_JAX_TEST_PHOTOS may name a folder of real photos with .mat files, as AFLW2000-3D's; without it that test is skipped.
"""

import concurrent.futures
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shape_checks
from matplotlib import cbook
from PIL import Image

from sfm_jax.data.augment import MIRROR
from sfm_jax.data.crop import crop_affine, transform_points, warp
from sfm_jax.data.damage import to_srgb
from sfm_jax.data.photo_sets import decode
from sfm_jax.data.photos import open_photos
from sfm_jax.evaluation.landmarks import nme_percent
from sfm_jax.geometry.camera import frame
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import detection
from sfm_jax.inference.detection import BlazeFace, Look, Network, looks, merge, overlap, shrink, tile_centres, view
from sfm_jax.inference.face_points import FaceDetector, ibug68
from sfm_jax.inference.surface_points import load_surface_points
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.render import PointLight, render, surface

pytest.importorskip("ai_edge_litert")

SIZE = 320
YAWS = (-60, -30, 0, 30, 60)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def model():
    return load_default(0)


@pytest.fixture(scope="module")
def portraits(model):
    """{yaw: (image [S, S, 3] uint8, vertices in the picture [V, 3]: x, y, nearness)}, each of another person."""
    people = load_population()[100:105]
    mesh, lamp = surface(model.topology.triangles), jnp.array([300.0, 300.0, 500.0])
    light = PointLight(lamp, jnp.full(3, 1.2), jnp.full(3, 0.35), jnp.float32(0.1), jnp.float32(15.0))

    @jax.jit
    def shoot(codes):
        identity, albedo, yaw = codes
        vertices = model.decode(identity)
        camera = frame(vertices, (SIZE, SIZE), rotation_from_euler(jnp.stack([yaw, 0.0 * yaw, 0.0 * yaw])))
        seen = render(vertices, mesh, camera, (SIZE, SIZE), albedo=model.albedo(albedo), light=light, background=0.2,
                      edge_width=1.0, cull=True)
        return jnp.uint8(255 * to_srgb(jnp.clip(seen.colour, 0, 1))), camera.project(vertices)

    images, points = jax.device_get(jax.lax.map(shoot, (people.identity, people.albedo, np.float32(YAWS))))
    return {yaw: (image, point) for yaw, image, point in zip(YAWS, images, points, strict=True)}


def size_of(landmarks):
    return np.sqrt(np.prod(np.ptp(landmarks, axis=0)))


def errors(found, truth):
    """Distances in per cent of sqrt(width * height) of the true landmarks' box."""
    return 100 * np.linalg.norm(found - truth, axis=-1) / size_of(truth)


@pytest.mark.parametrize("yaw", YAWS)
def test_rendered_face_is_found_where_it_is(detector, model, portraits, yaw):
    image, vertices = portraits[yaw]
    truth = vertices[model.topology.landmarks, :2]
    faces = detector.faces(image)
    assert len(faces) == 1
    face = faces[0]
    assert face.presence > 0.9 and face.score > 0.6
    # The true landmarks' box ends at the brows, the face's above them.
    box = np.concatenate([truth.min(0), truth.max(0)])
    assert overlap(box, face.box[None])[0] > 0.5
    # The jaw is another line than iBUG's: nothing is said of it.
    assert errors(face.landmarks68, truth)[17:].mean() < (5 if abs(yaw) <= 30 else 9)
    if abs(yaw) <= 30:  # beyond, one eye is hidden
        eyes_and_nose = np.stack([*truth[36:48].reshape(2, 6, 2).mean(1), truth[30]])
        assert np.linalg.norm(face.keypoints[:3] - eyes_and_nose, axis=1).max() < 0.08 * size_of(truth)


def test_depth_grows_towards_the_viewer(detector, portraits):
    image, vertices = portraits[0]
    nearness = load_surface_points()(jnp.asarray(vertices))[:, 2]
    (face,) = detector.faces(image)
    assert np.corrcoef(face.points[:, 2], nearness)[0, 1] > 0.9


@pytest.mark.parametrize("angle", [50, 90, 180, 230])
def test_face_turned_in_the_picture(detector, portraits, angle):
    image, _ = portraits[0]
    (upright,) = detector.faces(image, closest=0)
    affine = crop_affine((np.full(2, SIZE / 2), 1.3 * SIZE), 400, roll=angle)
    (face,) = detector.faces(warp(image, affine, 400))
    expected = transform_points(upright.landmarks68, affine)
    assert errors(face.landmarks68, expected).mean() < 3


def test_two_faces_the_larger_first(detector, portraits):
    left, right = portraits[0][0], portraits[30][0]
    scene = np.zeros((SIZE, 2 * SIZE, 3), np.uint8)
    scene[:, :SIZE] = np.asarray(Image.fromarray(np.pad(left, ((60, 60), (60, 60), (0, 0)))).resize((SIZE, SIZE)))
    scene[:, SIZE:] = right
    faces = detector.faces(scene)
    assert len(faces) == 2
    for face, image, scale, corner in zip(faces, (right, left), (1, SIZE / (SIZE + 120)), (np.array([SIZE, 0]), 0),
                                          strict=True):
        (alone,) = detector.faces(image, closest=0)
        expected = scale * (alone.landmarks68 + (60 if scale < 1 else 0)) + corner
        assert errors(face.landmarks68, expected).mean() < 3


def test_small_face_in_a_large_photo(detector, portraits):
    photo = np.full((1800, 2400, 3), 120, np.uint8)
    photo[1500:1500 + 120, 300:300 + 120] = np.asarray(Image.fromarray(portraits[0][0]).resize((120, 120), Image.BOX))
    (alone,) = detector.faces(portraits[0][0], closest=0)
    (face,) = detector.faces(photo)
    assert errors(face.landmarks68, alone.landmarks68 * 120 / SIZE + [300, 1500]).mean() < 4
    assert detector.faces(photo, closest=0) == []


def test_no_face_in_what_is_none(detector):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for image in (noise, np.zeros((90, 70, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8),
                  np.full((2, 700, 3), 128, np.uint8)):
        assert detector.faces(image) == []
        assert detector.track(image, None) is None


@pytest.mark.parametrize(("image", "found"), [
    (np.zeros((8, 8), np.uint8), r"uint8 \[8, 8\]"), (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
    (np.zeros((8, 8, 3)), r"float64 \[8, 8, 3\]"), (np.zeros((0, 8, 3), np.uint8), r"uint8 \[0, 8, 3\]"),
    ([[0]], "list")])
@shape_checks.off()
def test_other_images_are_named(detector, image, found):
    for call in (detector.faces, lambda image: detector.track(image, None), BlazeFace()):
        with pytest.raises(ValueError, match=f"image: found {found}, expected uint8"):
            call(image)


def test_face_is_followed_and_found_again(detector, portraits):
    """Moved, turned and enlarged from frame to frame; then gone; then somewhere else."""
    image, black = portraits[30][0], np.zeros((SIZE, SIZE, 3), np.uint8)
    (first,) = detector.faces(image, closest=0)
    face = first
    for step in range(1, 6):
        affine = crop_affine((np.full(2, SIZE / 2) - 6.0 * step, SIZE * (1.3 - 0.04 * step)), SIZE, roll=8 * step)
        face = detector.track(warp(image, affine, SIZE), face)
        assert errors(face.landmarks68, transform_points(first.landmarks68, affine)).mean() < 4
        assert face.score == first.score  # not looked for anew
    assert detector.track(black, face, closest=0) is None
    scene = np.concatenate([black, image], 1)
    assert errors(detector.track(scene, face).landmarks68, first.landmarks68 + [SIZE, 0]).mean() < 3


def test_threads_share_a_detector(detector, portraits):
    images = [image for image, _ in portraits.values()]
    alone = [detector.faces(image, closest=0)[0].points for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: detector.faces(image, closest=0)[0].points, images))
    np.testing.assert_array_equal(alone, together)


def test_surface_points_are_where_the_detector_puts_them(detector, model, portraits):
    surface_points = load_surface_points()
    triangles = {tuple(sorted(corners)) for corners in model.topology.triangles.tolist()}
    assert all(tuple(sorted(corners)) in triangles for corners in np.asarray(surface_points.corners).tolist())
    weights, counts = np.asarray(surface_points.barycentric), np.asarray(surface_points.weight)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() >= 0 and counts.min() == 0 and counts.max() <= 1 and (counts > 0).sum() > 400
    for yaw in (-30, 0, 30):
        image, vertices = portraits[yaw]
        (face,) = detector.faces(image, closest=0)
        placed = np.asarray(surface_points(jnp.asarray(vertices)))[:, :2]
        size = size_of(vertices[model.topology.landmarks, :2])
        distance = np.linalg.norm(face.points[:, :2] - placed, axis=1)
        assert np.average(distance, weights=counts) < 0.03 * size


def test_surface_points_hold_for_both_details_and_any_values(model):
    points, fine = load_surface_points(), load_default(1)
    np.testing.assert_allclose(points(fine.mean), points(model.mean), atol=1e-4)
    batch = jnp.stack([model.mean, 2 * model.mean])
    np.testing.assert_allclose(points(batch)[1], 2 * points(model.mean), rtol=1e-6)
    assert points(model.albedo_mean).shape == (468, 3)


def test_surface_points_of_the_lips_part_and_of_the_lids_meet(model):
    """In mm, by expression: none of a lip or lid has come to lie on the other one, which it touches at rest."""
    points, names = load_surface_points(), model.expression_names

    def height(*units):
        code = jnp.zeros(len(names)).at[np.array([names.index(unit) for unit in units], int)].set(1.0)
        return np.asarray(points(model.decode(jnp.zeros(1), code)))[:, 1]

    upper, lower = np.array([80, 81, 82, 13, 312, 311, 310]), np.array([88, 178, 87, 14, 317, 402, 318])
    gap = height()[upper] - height()[lower]
    assert (np.abs(gap) < 2).all() and (height("jawOpen")[upper] - height("jawOpen")[lower] > 10).all()
    upper, lower = np.array([160, 159, 158, 385, 386, 387]), np.array([144, 145, 153, 380, 374, 373])
    shut = height("eyeBlinkLeft", "eyeBlinkRight")
    assert (height()[upper] - height()[lower] > 6).all() and (np.abs(shut[upper] - shut[lower]) < 4).all()


def test_order_of_the_68_points(detector, portraits):
    """Mirrored pairs of iBUG's order lie to either side of the nose's bridge."""
    (face,) = detector.faces(portraits[0][0], closest=0)
    landmarks = face.landmarks68
    np.testing.assert_array_equal(landmarks, ibug68(face.points[None, :, :2])[0])
    pairs = [*zip(range(8), range(16, 8, -1), strict=True), *zip(range(17, 22), range(26, 21, -1), strict=True),
             (31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (41, 46), (40, 47), (48, 54), (49, 53),
             (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    bridge = landmarks[27:31, 0].mean()
    for right, left in pairs:
        middle = (landmarks[right] + landmarks[left]) / 2
        assert landmarks[right, 0] < bridge < landmarks[left, 0]
        assert abs(middle[0] - bridge) < 0.08 * size_of(landmarks)


# ------------------------------------------------------------------------------------- arithmetic by hand

def test_anchors_are_the_centres_of_two_grids():
    anchors = detection.anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[:4], [[1 / 32, 1 / 32]] * 2 + [[3 / 32, 1 / 32]] * 2)
    np.testing.assert_allclose(anchors[512], [1 / 16, 1 / 16])
    np.testing.assert_allclose(anchors[-1], [15 / 16, 15 / 16])


def test_overlapping_candidates_become_their_weighted_mean():
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [100, 100, 140, 140]])
    keypoints = np.stack([np.full((6, 2), value) for value in (1.0, 5.0, 9.0)])
    merged = merge(boxes, np.array([0.9, 0.6, 0.7]), keypoints)
    np.testing.assert_allclose(merged.boxes, [[100, 100, 140, 140], [0.8, 0, 10.8, 10]])  # the larger first
    np.testing.assert_allclose(merged.scores, [0.7, 0.9])
    np.testing.assert_allclose(merged.keypoints[:, 0, 0], [9, 2.6])
    assert len(merge(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 6, 2))).scores) == 0


def test_overlap_by_hand():
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlap(boxes[0], boxes), [1, 1 / 7, 0, 0])


@pytest.mark.parametrize("size", [(480, 640), (1000, 1000), (300, 2000), (64, 64)])
def test_every_square_of_half_a_tile_is_whole_in_a_tile(size):
    for (look, *_) in looks(size):
        centres, half = tile_centres(size, look.side), look.side / 2
        corner = np.random.default_rng(0).uniform(0, np.maximum(np.array(size[::-1]) - half, 0), (200, 2))
        inside = (corner[:, None] >= centres - half - 1e-6) & (corner[:, None] + half <= centres + half + 1e-6)
        fits = np.array(size[::-1]) >= half
        assert (inside | ~fits).all(-1).any(1).all()


def test_looks_come_closer_while_there_are_pixels():
    assert [level[0] for level in looks((900, 1200))] == [Look(side, 0) for side in (1200, 600, 300, 150)]
    assert [level[0].side for level in looks((900, 1200), closest=0)] == [1200]
    assert [level[0].side for level in looks((100, 100))] == [100]
    assert [look.turn for look in looks((900, 1200))[1]] == [0, 90, 180, 270]


def test_shrinking_averages_whole_blocks():
    photo = np.random.default_rng(0).integers(0, 256, (2064, 3072, 3), dtype=np.uint8)
    small, block = shrink(photo)
    assert block == 2 and small.shape == (1032, 1536, 3)
    np.testing.assert_allclose(small, photo.reshape(1032, 2, 1536, 2, 3).mean((1, 3)), atol=0.51)
    assert shrink(photo[:900])[1] == 1


@pytest.mark.parametrize("centre", [(700.3, 500.6), (20.0, 990.0), (-900.0, 50.0)])
@pytest.mark.parametrize("side", [90.0, 640.0])
def test_view_is_the_warp_of_the_whole_photo(centre, side):
    """To a grey level or two: blocks are averaged from another first pixel on."""
    rows, columns = np.mgrid[:1000, :1500]
    photo = np.uint8(128 + 60 * np.stack([np.sin(rows / 70), np.cos(columns / 90), np.sin(rows / 99 + 1)], -1))
    affine = crop_affine((np.array(centre), side), 64, roll=33)
    assert np.abs(view(photo, affine, 64)[2:-2, 2:-2].astype(int) - warp(photo, affine, 64)[2:-2, 2:-2]).max() <= 3


def test_missing_runtime_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ValueError, match=r"ai-edge-litert: pip install ai-edge-litert"):
        FaceDetector()


def test_damaged_network_is_named(tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"no network" * 100)
    with pytest.raises(ValueError, match="broken.tflite: not readable as a network"):
        Network(path)
    with pytest.raises(ValueError, match="nothing.tflite: not readable as a network"):
        Network(tmp_path / "nothing.tflite")


def test_opening_a_network_is_silent_but_for_errors(capfd):
    BlazeFace()
    with detection._without_remarks():
        os.write(2, b"INFO: Created a delegate\nERROR: out of memory\n")
    assert capfd.readouterr().err == "ERROR: out of memory\n"
    with pytest.raises(KeyError), detection._without_remarks():
        os.write(2, b"WARNING: odd\n")
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "WARNING: odd\nafter\n"


def test_photo_that_comes_with_matplotlib(detector):
    """Points marked by hand, to about two pixels."""
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    (face,) = detector.faces(decode(Path(path).read_bytes(), str(path)))
    eyes_and_mouth = np.array([[222.5, 189.5], [304.5, 186.8], [267.5, 276.3]])
    assert np.linalg.norm(face.keypoints[[0, 1, 3]] - eyes_and_mouth, axis=1).max() < 8
    mouth_corners, chin = np.array([[230.0, 280.0], [307.5, 277.5]]), np.array([270.0, 333.7])
    assert np.linalg.norm(face.landmarks68[[48, 54]] - mouth_corners, axis=1).max() < 8
    assert np.linalg.norm(face.landmarks68[8] - chin) < 12


def test_points_of_a_mirrored_photo_are_the_mirrored_points(detector):
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = decode(Path(path).read_bytes(), str(path))
    (face,), (other,) = detector.faces(image), detector.faces(np.ascontiguousarray(image[:, ::-1]))
    mirrored = (other.landmarks68 * [-1, 1] + [image.shape[1], 0])[MIRROR]
    apart = np.linalg.norm(face.landmarks68 - mirrored, axis=1) / np.ptp(face.landmarks68[:, 0])
    assert apart.max() < 0.035


@pytest.mark.skipif("SFM_JAX_TEST_PHOTOS" not in os.environ, reason="SFM_JAX_TEST_PHOTOS: photos with .mat files")
def test_real_photos(detector):
    source = open_photos(f"aflw:{os.environ['SFM_JAX_TEST_PHOTOS']}")
    found, truth = [], []
    for raw in map(source.raw, range(len(source))):
        faces = detector.faces(decode(raw.image, raw.name))
        box = np.concatenate([raw.landmarks.min(0), raw.landmarks.max(0)])
        shares = overlap(box, np.array([face.box for face in faces]).reshape(-1, 4))
        if shares.max(initial=0) > 0.3:
            found.append(faces[shares.argmax()].landmarks68)
            truth.append(raw.landmarks)
    assert len(found) > 0.9 * len(source)
    assert nme_percent(np.stack(found), np.stack(truth)).mean() < 8
    assert np.mean([errors(f, t)[17:].mean() for f, t in zip(found, truth, strict=True)]) < 5
