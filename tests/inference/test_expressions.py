"""ARKit weights from a mesh: truth from the simulated performance, and what a solve must never do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.expressions import ExpressionSolver, pack_basis, unpack_basis
from inference.model_store import load_model
from inference.tempeh.layout import unpack_constants
from rig.simulation.head import head_topology, load_head, random_identity
from rig.simulation.performance import Performance, rigid
from streamer.errors import ModelError
from streamer.geometry import transform

FPS = 30
UNITS = head_topology().units


@pytest.fixture(scope="module")
def model():
    return load_model("live")


@pytest.fixture(scope="module")
def basis(model):
    return unpack_basis(model.constants)


def performed(seed, frames, error=None):
    """Meshes (F, N, 3) in metres, poses and true weights of a simulated performance."""
    head, topology = load_head(), head_topology()
    neutral = head.person(random_identity(np.random.default_rng([seed, 0xE0])))[: topology.vertex_count]
    performance = Performance(seed, UNITS)
    moments = [performance.at(k / FPS) for k in range(frames)]
    shapes = [
        neutral
        + np.tensordot(m.weights, head.expression[:, : topology.vertex_count], 1)
        + (0 if error is None else error(k))
        for k, m in enumerate(moments)
    ]
    meshes = [transform(m.world_from_head, shape.astype(np.float64)) for m, shape in zip(moments, shapes, strict=True)]
    return meshes, [m.world_from_head for m in moments], np.array([m.weights for m in moments])


def solved(basis, meshes, poses):
    solver = ExpressionSolver(basis)
    return np.array([solver(v, p, round(k / FPS * 1e9)) for k, (v, p) in enumerate(zip(meshes, poses, strict=True))])


@pytest.mark.parametrize("seed", [1000, 1003])
def test_weights_follow_a_performance_of_an_unknown_person(model, basis, seed):
    """The mesh errs as a network errs: by shape components, most of it the same in all frames."""
    shape = unpack_constants(model.constants, model.topology).prior.basis
    rng = np.random.default_rng(seed)
    lasting = rng.normal(size=shape.shape[2])
    meshes, poses, truth = performed(
        seed, 150, lambda k: shape @ (0.12 * lasting + 0.05 * rng.normal(size=shape.shape[2])).astype(np.float32) / 1000
    )
    found, truth = solved(basis, meshes, poses)[60:], truth[60:]
    moving = np.flatnonzero(truth.std(0) > 0.05)
    assert len(moving) > 15
    correlation = [np.corrcoef(truth[:, unit], found[:, unit])[0, 1] for unit in moving]
    assert np.mean(correlation) > 0.9
    assert np.median(correlation) > 0.97
    moves = np.abs((found - found.mean(0)) - (truth - truth.mean(0))).mean()
    assert moves < 0.5 * np.abs(truth - truth.mean(0)).mean()


def test_who_is_calibrated_with_a_face_at_rest_is_read_in_full(basis):
    meshes, poses, truth = performed(1001, 60)
    head, topology = load_head(), head_topology()
    rest = head.person(random_identity(np.random.default_rng([1001, 0xE0])))[: topology.vertex_count].astype(np.float64)
    found = solved(basis, [rest] * 64 + meshes, [np.eye(4)] * 64 + poses)[64:]
    assert np.abs(found - truth).mean() < 0.5 * truth.mean()


def test_an_open_mouth_and_a_blink_are_told_apart(basis):
    head, topology = load_head(), head_topology()
    neutral = head.person(random_identity(np.random.default_rng(7)))[: topology.vertex_count].astype(np.float64)
    solver = ExpressionSolver(basis)
    for k in range(70):
        solver(neutral, np.eye(4), round(k / FPS * 1e9))
    assert solver.calibrated
    for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileRight"):
        row = UNITS.index(name)
        moved = neutral + 0.8 * head.expression[row, : topology.vertex_count]
        weights = solver(moved, np.eye(4), round(71 / FPS * 1e9))
        assert weights.argmax() == row
        assert weights[row] == pytest.approx(0.8, abs=0.15)
        assert np.delete(weights, row).max() < 0.3


def test_rigid_motion_leaves_the_weights_alone(basis):
    meshes, poses, _ = performed(5, 90)
    elsewhere = rigid(0.9, -0.4, 0.3, np.array([1.0, -0.5, 2.0]))
    moved = [transform(elsewhere, mesh) for mesh in meshes]
    there = [elsewhere @ pose for pose in poses]
    np.testing.assert_allclose(solved(basis, moved, there), solved(basis, meshes, poses), atol=1e-5)


def test_a_pose_that_is_a_little_off_hardly_matters(basis):
    meshes, poses, _ = performed(5, 90)
    off = [pose @ rigid(0.015, -0.01, 0.012, np.array([0.002, 0.001, -0.002])) for pose in poses]
    assert np.abs(solved(basis, meshes, off) - solved(basis, meshes, poses))[60:].mean() < 0.02


def test_after_a_gap_another_person_is_calibrated(basis):
    first, poses, _ = performed(1, 70)
    second, others, _ = performed(2, 70)
    solver = ExpressionSolver(basis)
    for k, (mesh, pose) in enumerate(zip(first, poses, strict=True)):
        solver(mesh, pose, round(k / FPS * 1e9))
    late = [solver(m, p, round((k / FPS + 100) * 1e9)) for k, (m, p) in enumerate(zip(second, others, strict=True))]
    np.testing.assert_allclose(np.array(late), solved(basis, second, others), atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), size_mm=st.floats(0, 300))
def test_weights_are_weights_whatever_the_mesh(basis, seed, size_mm):
    rng = np.random.default_rng(seed)
    mesh = head_topology().template + rng.normal(0, size_mm / 1000, (len(head_topology().template), 3))
    weights = ExpressionSolver(basis)(mesh, np.eye(4), 0)
    assert weights.shape == (len(UNITS),)
    assert weights.dtype == np.float32
    assert (weights >= 0).all() and (weights <= 1).all()


def test_a_model_without_units_gives_none_and_half_a_basis_is_named(model, basis):
    others = {key: value for key, value in model.constants.items() if not key.startswith("expression")}
    assert unpack_basis(others) is None
    packed = pack_basis(basis)
    with pytest.raises(ModelError, match="expression_units"):
        unpack_basis(others | {key: value for key, value in packed.items() if key != "expression_units"})
    with pytest.raises(ModelError, match="expression basis"):
        unpack_basis(packed | {"expression_at": packed["expression_at"][1:]})
