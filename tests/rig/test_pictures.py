"""What travels: full or proxy, JPEG or raw."""

from dataclasses import replace

import numpy as np
import pytest

from rig.config import RigConfig, SimulatedConfig
from rig.driver import RawFrame
from rig.patterns import PatternStage
from rig.pictures import DamagedPicture, as_rgb, prepare, published_size
from streamer.errors import DriverError
from streamer.pixels import encode_pixels
from streamer.types import U8

CAMERA = PatternStage(SimulatedConfig(cameras=1, width=96, height=60)).calibration.cameras[0]
RNG = np.random.default_rng(3)
COLOUR: U8 = RNG.integers(0, 256, (60, 96, 3), np.uint8)
FULL = RigConfig(encoding="raw")
PROXY = RigConfig(encoding="raw", publish="proxy", proxy_factor=4)


def raw(pixels: U8, encoding: str = "rgb8", width: int = 96, height: int = 60) -> RawFrame:
    return RawFrame("cam_0", 0, 0, "host", pixels, encoding, width, height)  # type: ignore[arg-type]


def jpeg(pixels: U8, quality: int = 90) -> U8:
    return encode_pixels(pixels, "jpeg", quality)[1]


def test_full_raw_pictures_are_not_copied() -> None:
    picture = prepare(raw(COLOUR), CAMERA, FULL)
    assert picture.data is COLOUR
    assert (picture.width, picture.height, picture.encoding) == (96, 60, "rgb8")


@pytest.mark.parametrize("pixels", [COLOUR, COLOUR[..., 0]], ids=["colour", "grey"])
def test_a_proxy_is_the_area_average(pixels: U8) -> None:
    encoding = "rgb8" if pixels.ndim == 3 else "mono8"
    picture = prepare(raw(pixels, encoding), CAMERA, PROXY)
    assert (picture.width, picture.height, picture.encoding) == (24, 15, encoding)
    blocks = pixels.reshape(15, 4, 24, 4, -1).mean(axis=(1, 3)).reshape(picture.data.shape)
    assert np.abs(picture.data - blocks).max() <= 0.5, "rounded mean of 4 x 4 pixels"


def test_a_jpeg_of_the_published_size_passes_unopened_and_others_do_not() -> None:
    data = jpeg(COLOUR)
    rig = RigConfig(encoding="jpeg", jpeg_quality=50)
    assert prepare(raw(data, "jpeg"), CAMERA, rig).data is data
    opened = prepare(raw(data, "jpeg"), CAMERA, FULL)
    assert (opened.encoding, opened.data.shape) == ("rgb8", (60, 96, 3))
    proxy = prepare(raw(data, "jpeg"), CAMERA, replace(PROXY, encoding="jpeg"))
    assert (proxy.width, proxy.height, proxy.encoding) == (24, 15, "jpeg")
    assert np.abs(as_rgb(raw(proxy.data, "jpeg", 24, 15)).astype(int).mean() - COLOUR.mean()) < 3


def test_a_take_of_proxies_is_never_enlarged() -> None:
    small = np.ascontiguousarray(COLOUR[:15, :24])
    assert prepare(raw(small, width=24, height=15), CAMERA, FULL).data is small
    assert prepare(raw(small, width=24, height=15), CAMERA, PROXY).data is small


def test_odd_sizes_round_down_and_never_to_nothing() -> None:
    assert published_size(CAMERA, replace(PROXY, proxy_factor=7)) == (13, 8)
    tiny = PatternStage(SimulatedConfig(cameras=1, width=3, height=2)).calibration.cameras[0]
    assert published_size(tiny, replace(PROXY, proxy_factor=16)) == (1, 1)


def test_damaged_jpegs_are_told_from_sizes_that_are_wrong() -> None:
    data = jpeg(COLOUR)
    for damaged in (data[: len(data) // 2], np.zeros(50, np.uint8), np.zeros(0, np.uint8)):
        with pytest.raises(DamagedPicture, match="cam_0"):
            prepare(raw(damaged, "jpeg"), CAMERA, FULL)
    with pytest.raises(DamagedPicture, match="96x60"):
        prepare(raw(data, "jpeg", 48, 30), CAMERA, FULL)


@pytest.mark.parametrize(("width", "height"), [(97, 60), (192, 120), (48, 60), (60, 96)])
def test_pictures_that_the_calibration_does_not_describe_are_refused(width: int, height: int) -> None:
    with pytest.raises(DriverError, match=rf"'cam_0': a picture of {width}x{height}, calibrated for 96x60"):
        prepare(raw(np.zeros((height, width, 3), np.uint8), width=width, height=height), CAMERA, FULL)


def test_an_array_that_is_not_the_picture_it_says_is_refused() -> None:
    with pytest.raises(DriverError, match=r"96x60 in rgb8 came as an array of \(60, 96\)"):
        prepare(raw(COLOUR[..., 0], "rgb8"), CAMERA, FULL)
