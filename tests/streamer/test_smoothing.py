"""Filters over time: what they must not change, and what they must."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.gateway.feed import Feed
from streamer.smoothing.live import LiveFilter
from streamer.smoothing.one_euro import OneEuro, OneEuroParameters
from streamer.smoothing.zero_phase import kernel, reach_s, smooth
from streamer.types import F32, MeshFrame, Topology

FPS = 60


def run_zero_phase(times: np.ndarray, values: np.ndarray, cutoff_hz: float) -> np.ndarray:
    stream = ((float(t), np.atleast_1d(np.float32(v))) for t, v in zip(times, values, strict=True))
    return np.stack(list(smooth(stream, cutoff_hz)))


@given(
    st.lists(st.floats(0.002, 0.3), min_size=3, max_size=40),
    st.floats(1, 30),
    st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_quadratics_pass_whatever_the_times(gaps: list[float], cutoff_hz: float, factors: tuple[float, ...]) -> None:
    """No lag and no flattening: a turn at constant acceleration comes out as it went in, ends and gaps included."""
    times = np.cumsum(gaps)
    values = factors[0] + factors[1] * (times - times[0]) + factors[2] * (times - times[0]) ** 2
    out = run_zero_phase(times, values, cutoff_hz)[:, 0]
    # A row of a projection: squares of the weights over the Gauss add up to 1 at most, so 40 of them to sqrt(40) in
    # absolute value; each term is rounded to float32 when it comes in and when it is added.
    assert np.abs(out - values).max() <= 41 * 40**0.5 * np.finfo(np.float32).eps * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("cutoff_hz", [2.0, 6.0, 10.0])
def test_the_cutoff_halves_the_power_and_adds_no_phase(cutoff_hz: float) -> None:
    offsets = np.arange(-200, 201) / 1000.0 if cutoff_hz > 3 else np.arange(-600, 601) / 1000.0
    weights = kernel(offsets[np.abs(offsets) <= reach_s(cutoff_hz)], cutoff_hz)
    inside = offsets[np.abs(offsets) <= reach_s(cutoff_hz)]
    assert np.allclose(weights, weights[::-1], atol=1e-12)  # symmetric: zero phase
    gain = abs(np.sum(weights * np.exp(2j * np.pi * cutoff_hz * inside)))
    assert gain**2 == pytest.approx(0.5, abs=0.01)  # the window ends at 4 sigma
    assert abs(np.sum(weights * np.exp(2j * np.pi * 4 * cutoff_hz * inside))) < 0.02


def test_noise_is_less_and_only_a_window_is_held() -> None:
    rng = np.random.default_rng(0)
    held: list[int] = [0, 0]

    def stream():  # type: ignore[no-untyped-def]
        for number in range(500):
            held[0] += 1
            yield number / FPS, rng.normal(0, 1, 30).astype(np.float32)

    out = []
    for value in smooth(stream(), 6.0):
        out.append(value)
        held[1] = max(held[1], held[0] - len(out))
    assert np.std(out) < 0.6
    assert held[1] <= int(reach_s(6.0) * FPS) + 2


def test_one_euro_is_the_paper_s_formula() -> None:
    """Against the algorithm written out for one number."""
    parameters = OneEuroParameters(cutoff_hz=1.5, beta=3.0)
    one = OneEuro(parameters)
    values, period = np.cumsum(np.random.default_rng(1).normal(0, 0.1, 50)).astype(np.float32), 1 / FPS

    def alpha(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / period)

    x, dx = float(values[0]), 0.0
    assert one(values[:1, None], 0)[0, 0] == values[0]
    for number, value in enumerate(values[1:].tolist(), 1):
        dx += alpha(1.0) * ((value - x) / period - dx)
        x += alpha(1.5 + 3.0 * abs(dx)) * (value - x)
        assert one(np.array([[value]], np.float32), round(number * period * 1e9))[0, 0] == pytest.approx(x, abs=1e-4)


def test_one_euro_begins_anew_where_it_must() -> None:
    one = OneEuro()
    rest, far = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    one(rest, 10**9)
    assert 0 < one(far, 10**9 + 16_000_000)[0, 0] < 1
    assert np.array_equal(one(rest, 10**9 + 600_000_000), rest)  # a gap
    assert np.array_equal(one(far, 10**9), far)  # the clock runs backwards
    assert np.array_equal(one(far[:2], 10**9 + 1), far[:2])  # another topology
    given_back = one(rest[:2], 10**9 + 2)
    given_back += 100  # what was handed out is the caller's
    assert one(rest[:2], 10**9 + 3).max() < 2


def test_the_live_head_is_calm_as_a_whole_and_stays_a_head() -> None:
    """Noise shrinks at rest, pose and vertices keep together, identities pass; nothing comes back from before a gap."""
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.1, (200, 3)).astype(np.float32)
    calm = LiveFilter(OneEuroParameters(cutoff_hz=1.0, beta=10.0))
    seen: list[tuple[MeshFrame, MeshFrame]] = []
    for number in range(120):
        shake = np.asarray(rng.normal(0, 0.0005, 3), np.float32)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = shake
        weights = np.clip(np.array([0.5, 0.99], np.float32) + rng.normal(0, 0.05, 2).astype(np.float32), 0, 1)
        mesh = MeshFrame(number, number * 33_333_333, 7, "t", base + shake, pose, ("a",), weights, {"net": 1})
        seen.append((mesh, calm(mesh)))
    raw, out = zip(*seen[30:], strict=True)

    def spread(values: list[F32]) -> float:
        return float(np.std(np.stack(values), axis=0).mean())

    assert spread([m.vertices for m in out]) < 0.5 * spread([m.vertices for m in raw])
    assert spread([m.weights for m in out if m.weights is not None]) < 0.5 * 0.05
    for before, after in seen:
        assert (after.frame_id, after.exposure_time_ns) == (before.frame_id, before.exposure_time_ns)
        assert (after.views, after.stages_ns, after.publish_time_ns) == (("a",), {"net": 1}, 7)
        assert np.abs(after.vertices - base - after.world_from_head[:3, 3]).max() < 1e-5  # one lag for both
        rotation = after.world_from_head[:3, :3].astype(np.float64)
        assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-6 and after.weights is not None
        assert after.weights.min() >= 0 and after.weights.max() <= 1
    last = seen[-1][0]
    jumped = replace(last, exposure_time_ns=last.exposure_time_ns + 10**9, vertices=base + 1)
    assert np.array_equal(calm(jumped).vertices, jumped.vertices)
    other = replace(jumped, exposure_time_ns=jumped.exposure_time_ns + 10**7, topology_id="u", vertices=base)
    assert np.array_equal(calm(other).vertices, base)
    assert calm(replace(other, weights=None)).weights is None


def test_the_gateway_calms_what_clients_get() -> None:
    topology = Topology("tetra", np.array([[0, 1, 2]]), np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((3, 3)))
    pose = np.eye(4, dtype=np.float32)
    steps = [np.full((3, 3), 0.001 * (n % 2), np.float32) for n in range(10)]
    meshes = [MeshFrame(n, n * 33_333_333, 0, topology.id, step, pose) for n, step in enumerate(steps)]
    plain, calm = Feed(), Feed(LiveFilter(OneEuroParameters(1.0, 0.0)))
    for feed in (plain, calm):
        feed.push([topology])
        for mesh in meshes:
            feed.push([mesh])
    assert plain.newest is not None and calm.newest is not None
    assert np.array_equal(plain.newest[0].vertices, meshes[-1].vertices)
    assert 0 < float(calm.newest[0].vertices.max()) < 0.0009
    assert calm.newest[0].frame_id == 9
