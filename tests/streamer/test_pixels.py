"""Pictures: what was encoded comes back, reduced or not; what is damaged or of the wrong size never does."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import WireError
from streamer.pixels import decode_pixels, encode_pixels
from streamer.types import U8, Frame

HEIGHT, WIDTH = 96, 128


def scene(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> U8:
    """Smooth colours that no swap of channels and no flip leaves as they are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def frame_of(rgb: U8, encoding: Any, quality: int = 95, **change: Any) -> Frame:
    kind, data = encode_pixels(rgb, encoding, quality)
    values = {"width": rgb.shape[1], "height": rgb.shape[0], "encoding": kind, "data": data} | change
    return Frame("cam_3", 0, 0, 0, 0, "host", 0, 0, **values)


def average(rgb: U8, factor: int) -> Any:
    colour = rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, 2)
    height, width = rgb.shape[:2]
    return colour.reshape(height // factor, factor, width // factor, factor, 3).mean((1, 3))


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_decoding_at_a_reduced_size_is_averaging(encoding: str, grey: bool, reduce: int) -> None:
    rgb = scene()[..., 1] if grey else scene()
    decoded = decode_pixels(frame_of(rgb, encoding), reduce)
    assert decoded.shape == (HEIGHT // reduce, WIDTH // reduce, 3)
    assert decoded.dtype == np.uint8
    # Raw: half a step of rounding. JPEG at quality 95: quantisation, and colour at half the resolution; swapped
    # channels or a flip would be off by some 60 on average.
    error = np.abs(decoded - average(rgb, reduce))
    assert error.max() <= (0.5 + 1e-6 if encoding == "raw" else 16)
    assert error.mean() <= (0.5 if encoding == "raw" else 2)


def test_raw_pictures_are_not_copied() -> None:
    rgb = scene()
    frame = frame_of(rgb, "raw")
    assert np.shares_memory(frame.data, rgb)
    assert np.shares_memory(decode_pixels(frame), rgb)


def test_the_largest_network_factor_may_not_divide() -> None:
    with pytest.raises(WireError, match=r"cam_3.*100x60 cannot be reduced by 8"):
        decode_pixels(frame_of(scene(height=60, width=100), "jpeg"), 8)
    with pytest.raises(WireError, match="allowed: 1, 2, 4, 8"):
        decode_pixels(frame_of(scene(), "raw"), 3)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("change", [{"width": WIDTH * 2}, {"height": HEIGHT - 8}, {"width": HEIGHT, "height": WIDTH}])
def test_a_picture_of_another_size_names_the_camera(encoding: str, change: dict[str, int]) -> None:
    with pytest.raises(WireError, match="cam_3"):
        decode_pixels(frame_of(scene(), encoding, **change))


def test_a_jpeg_cut_anywhere_is_refused() -> None:
    data = frame_of(scene(), "jpeg", 80).data
    for length in range(len(data)):
        with pytest.raises(WireError, match="cam_3"):
            decode_pixels(frame_of(scene(), "jpeg", data=data[:length]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_rubbish_for_jpeg_raises_nothing_but_wire_errors(rubbish: bytes, at: int) -> None:
    good = bytes(frame_of(scene(), "jpeg", 80).data)
    for data in (rubbish, b"\xff\xd8" + rubbish, good[:at] + rubbish + good[at + len(rubbish) :]):
        try:
            decoded = decode_pixels(frame_of(scene(), "jpeg", data=np.frombuffer(data, np.uint8)))
        except WireError:
            continue
        assert decoded.shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame_of(scene(), "jpeg").data.copy()
    at = bytes(data).index(b"\xff\xc0")
    data[at + 5 : at + 9] = 0xFF
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(WireError, match="JPEG is 65535x65535, the frame says 128x96"):
        decode_pixels(frame_of(scene(), "jpeg", data=data))


def test_padding_after_the_picture_is_harmless() -> None:
    data = np.concatenate([frame_of(scene(), "jpeg").data, np.zeros(16, np.uint8)])
    assert decode_pixels(frame_of(scene(), "jpeg", data=data)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4, 4), "u1"), ((4, 4, 3), "f4"), ((0, 4, 3), "u1"), ((4,), "u1")])
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_what_is_no_picture_is_not_encoded(shape: tuple[int, ...], dtype: str, encoding: Any) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        encode_pixels(np.zeros(shape, dtype), encoding)


def test_what_jpeg_cannot_hold_says_so() -> None:
    with pytest.raises(WireError, match="use raw"):
        encode_pixels(np.zeros((1, 70_000), np.uint8), "jpeg")
