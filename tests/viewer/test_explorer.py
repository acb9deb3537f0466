import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.viewer.explorer import Crowd, Explorer, crowd_of


@pytest.fixture(params=[False, True], ids=["gaussian", "sphere"])
def explorer(request):
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(50, 12))
    length = np.full(50, 3.0) if request.param else np.linalg.norm(codes, axis=1)
    z = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    crowd = Crowd(z.astype(np.float32), length.astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32), True)
    return Explorer(crowd, fixed_length=request.param, seed=2)


def unit(z):
    np.testing.assert_allclose(np.linalg.norm(z), 1, atol=1e-6)


@pytest.mark.parametrize(("t", "person"), [(0.0, 3), (1.0, 7)])
def test_the_way_between_two_people_ends_at_them(explorer, t, person):
    explorer.between(3, 7, t)
    crowd = explorer.crowd
    np.testing.assert_allclose(explorer.code, crowd.length[person] * crowd.z[person], atol=2e-6)
    np.testing.assert_allclose(explorer.albedo, crowd.albedo[person], atol=1e-6)
    assert explorer.nearest(1)[0][0] == person


def test_half_way_lies_at_half_the_angle_from_both(explorer):
    explorer.between(3, 7, 0.5)
    unit(explorer.z)
    a, b = explorer.crowd.z[[3, 7]].astype(np.float64)
    half = np.arccos(a @ b) / 2
    np.testing.assert_allclose(np.arccos(np.array([a, b]) @ explorer.z), [half, half], atol=1e-6)


@pytest.mark.parametrize("degrees", [-180, -70, 0, 1, 45, 90, 180])
def test_a_walk_stays_on_the_sphere_and_goes_as_far_as_asked(explorer, degrees):
    explorer.go_to(5)
    start, length = explorer.z, explorer.length
    explorer.walk(np.radians(degrees))
    unit(explorer.z)
    np.testing.assert_allclose(explorer.z @ start, np.cos(np.radians(degrees)), atol=1e-6)
    assert explorer.length == length


def test_a_walk_is_one_great_circle_and_comes_back(explorer):
    explorer.go_to(5)
    places = []
    for degrees in (0, 30, 120, 250, 360):
        explorer.walk(np.radians(degrees))
        places.append(explorer.z)
    np.testing.assert_allclose(places[-1], places[0], atol=1e-6)
    assert np.linalg.matrix_rank(np.array(places), tol=1e-5) == 2


def test_another_direction_starts_here_and_goes_elsewhere(explorer):
    explorer.go_to(5)
    explorer.walk(0.5)
    here = explorer.z
    explorer.walk(1.0)
    old = explorer.z
    explorer.walk(0.5)
    explorer.turn()
    explorer.walk(0.0)
    np.testing.assert_allclose(explorer.z, here, atol=1e-6)
    explorer.walk(0.5)
    assert np.linalg.norm(explorer.z - old) > 0.1


def test_nearest_are_those_of_brute_force(explorer):
    explorer.stand(np.random.default_rng(5).normal(size=12), np.zeros(4))
    cosines = [np.dot(z, explorer.code) / np.linalg.norm(z) / np.linalg.norm(explorer.code) for z in explorer.crowd.z]
    who, angles = explorer.nearest(6)
    np.testing.assert_array_equal(who, np.argsort(cosines)[::-1][:6])
    np.testing.assert_allclose(angles, np.arccos(np.sort(cosines)[::-1][:6]), atol=1e-6)


def test_a_random_person_is_one_of_the_crowd(explorer):
    met = {explorer.random_person() for _ in range(20)}
    assert len(met) > 5
    assert met <= set(range(50))
    person = explorer.random_person()
    np.testing.assert_allclose(explorer.z, explorer.crowd.z[person], atol=1e-6)


def test_a_component_is_what_it_was_set_to(explorer):
    explorer.go_to(9)
    before = explorer.code
    explorer.set_component(2, 0.8)
    assert explorer.component(2) == pytest.approx(0.8, abs=1e-5)
    unit(explorer.z)
    others = np.arange(12) != 2
    ratio = explorer.code[others] / before[others]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    if explorer.fixed_length:
        assert explorer.length == 3.0
    else:
        np.testing.assert_allclose(ratio, 1, rtol=1e-4)


def test_a_component_that_had_it_all_gives_it_back():
    """On the sphere of 9 coordinates, whose radius is three standard deviations."""
    z = np.random.default_rng(3).normal(size=(1, 9))
    z = (z / np.linalg.norm(z)).astype(np.float32)
    explorer = Explorer(Crowd(z, np.ones(1, np.float32), np.zeros((1, 0), np.float32), False), fixed_length=True)
    for value in (3.0, 1.0, -3.0, 0.0):
        explorer.set_component(2, value)
        assert explorer.component(2) == pytest.approx(value, abs=1e-5)
        unit(explorer.z)
    others = np.arange(9) != 2
    np.testing.assert_allclose(explorer.z[others], z[0, others] / np.linalg.norm(z[0, others]), atol=1e-5)


def test_people_of_the_default_model_are_met_exactly():
    people, crowd = load_population(), crowd_of(load_default(0), None)
    assert crowd.are_people
    np.testing.assert_allclose(crowd.length[:, None] * crowd.z, people.identity, atol=1e-5)
    np.testing.assert_array_equal(crowd.albedo, people.albedo)


def test_people_are_found_in_a_basis_turned_about():
    model = load_default(0)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(120, 120)))[0].astype(np.float32)
    turned = model.replace(identity_basis=jnp.einsum("kl,lvc->kvc", turn, model.identity_basis))
    crowd = crowd_of(turned, None)
    np.testing.assert_allclose(crowd.length[:, None] * crowd.z, load_population().identity @ turn.T, atol=1e-3)


def test_people_of_a_sphere_model_have_its_radius():
    model = load_default(0)
    crowd = crowd_of(model.replace(identity_basis=model.identity_basis[:20]), 4.5)
    np.testing.assert_allclose(crowd.length, 4.5, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(crowd.z, axis=1), 1, atol=1e-6)
    assert len(crowd.z) == len(load_population())


def test_another_mesh_has_random_codes(toy_model):
    crowd = crowd_of(toy_model, None)
    assert not crowd.are_people
    assert crowd.z.shape[1] == len(toy_model.identity_basis)


def test_a_model_of_one_person_has_empty_codes():
    model = load_default(0)
    crowd = crowd_of(model.replace(identity_basis=model.identity_basis[:0]), None)
    assert Explorer(crowd, fixed_length=False).code.shape == (0,)


def test_with_one_component_a_walk_leads_nowhere():
    crowd = Crowd(np.float32([[-1]]), np.float32([2]), np.zeros((1, 0), np.float32), are_people=False)
    explorer = Explorer(crowd, fixed_length=False)
    explorer.walk(1.0)
    np.testing.assert_allclose(explorer.code, [-2], rtol=1e-6)
