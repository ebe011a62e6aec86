import numpy as np
import pytest

from renderer.viewer import studio
from renderer.viewer.harmonics import COUNT, fibonacci, harmonics
from renderer.viewer.studio import LAMPS, RANGE, REACH, TABLE, tables


def at(table: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Linear light of a table for a normal, as the shader looks it up."""
    normal = normal / np.linalg.norm(normal)
    spot = (normal[:2] / (1.0 + normal[2]) / REACH / 2 + 0.5) * TABLE
    column, row = np.clip(spot.astype(int), 0, TABLE - 1)
    return RANGE * (table[row, column].astype(float) / 255) ** 2


def test_the_functions_are_orthonormal() -> None:
    values = harmonics(fibonacci(20_000))
    np.testing.assert_allclose(values.T @ values * (4 * np.pi / 20_000), np.eye(COUNT), atol=2e-3)


def test_a_face_towards_a_lamp_returns_its_colour_and_one_in_the_dark_the_sky() -> None:
    body, mirror = tables("clay")
    key = at(body, np.array(LAMPS[0].towards))
    assert (key > LAMPS[0].colour).all() and (key < 1.4 * np.array(LAMPS[0].colour)).all(), "the lamp, and some sky"
    below = at(body, np.array([-0.2, -1.0, 0.2]))
    assert (below < 0.25).all() and below[0] > below[2] * 0.95, "little light from below, warm"
    half = np.array(LAMPS[0].towards) / np.linalg.norm(LAMPS[0].towards) + [0.0, 0.0, 1.0]
    assert at(mirror, half).min() > 3 * at(mirror, np.array([0.1, -0.6, 0.8])).max(), "the lamp in the mirror"
    assert tables("skin")[1].max() > 1.1 * mirror.max(), "skin is smoother than clay"


def test_no_finish_returns_more_than_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a room of even light a white body returns that light whatever its wrap, and a mirror no more than it."""
    monkeypatch.setattr(studio, "LAMPS", ())
    monkeypatch.setattr(studio, "SKY", (0.5, 0.5, 0.5))
    monkeypatch.setattr(studio, "GROUND", (0.5, 0.5, 0.5))
    monkeypatch.setattr(studio, "_sphere", studio._sphere.__wrapped__)
    for finish in ("skin", "clay"):
        body, mirror = tables.__wrapped__(finish)
        seen = np.hypot(*np.meshgrid(*[np.linspace(-REACH, REACH, TABLE)] * 2)) < 0.9
        np.testing.assert_allclose(RANGE * (body[seen] / 255.0) ** 2, 0.5, atol=0.03)
        assert (RANGE * (mirror[seen] / 255.0) ** 2).max() < 0.62
