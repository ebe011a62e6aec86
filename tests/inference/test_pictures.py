"""Frame sets to network input: slots, masks, sizes, proxies, and errors that name the camera."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from inference.pictures import PictureMaker, decoder_reduction
from streamer.errors import CalibrationError, WireError
from streamer.types import Calibration
from tests.inference.makers import frame, frame_set, grey, ring

Make = Callable[..., PictureMaker]


@pytest.fixture
def make() -> Iterator[Make]:
    makers = []

    def build(calibration: Calibration, width: int = 16, height: int = 12, max_views: int = 8) -> PictureMaker:
        makers.append(PictureMaker(calibration, width=width, height=height, max_views=max_views, workers=2))
        return makers[-1]

    yield build
    for maker in makers:
        maker.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.parametrize("encoding", ["jpeg", "rgb8"])
def test_each_camera_has_its_slot_and_its_colour(make: Make, encoding: str) -> None:
    maker = make(ring(8))
    present = ["cam_6", "cam_0", "cam_3"]
    pictures = maker(frame_set(frame(c, 5, grey(20 + 30 * int(c[4])), encoding=encoding) for c in present))
    assert pictures.values.shape == (8, 12, 16, 3) and pictures.values.dtype == np.uint8
    assert pictures.mask.tolist() == [1, 0, 0, 1, 0, 0, 1, 0] and pictures.views == ("cam_0", "cam_3", "cam_6")
    for slot in range(8):
        level = 20 + 30 * slot if pictures.mask[slot] else 0
        expected = np.broadcast_to([level, level // 2, level // 4], (12, 16, 3))
        np.testing.assert_allclose(pictures.values[slot], expected, atol=3)


def test_a_small_rig_leaves_slots_empty_and_a_large_one_says_what_it_leaves_out(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    maker = make(ring(3))
    assert len(maker.cameras) == 3 and maker.views == {"cam_0", "cam_1", "cam_2"}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        large = make(ring(16))
        for k in range(3):
            large(frame_set(frame(c, k, grey(100)) for c in ring(16).ids))
    assert len(caplog.records) == 1 and "8 views of 16; left out: " in caplog.text
    assert len(large.cameras) == 8 and large(frame_set(frame(c, 1, grey(9)) for c in ring(16).ids)).mask.sum() == 8


def test_proxies_give_the_pictures_of_the_full_size(make: Make) -> None:
    maker = make(ring(2, width=64, height=48))
    rows, columns = np.mgrid[0:48, 0:64]
    full = np.repeat((2 * rows + columns).astype(np.uint8)[..., None], 3, 2)
    proxy = full.reshape(24, 2, 32, 2, 3).mean((1, 3)).astype(np.uint8)
    a = maker(frame_set([frame("cam_0", 1, full)])).values[0]
    b = maker(frame_set([frame("cam_0", 2, proxy)])).values[0]
    np.testing.assert_allclose(a.astype(int), b, atol=1)
    assert maker.cameras[0].K[0, 0] == pytest.approx(ring(2).cameras[0].K[0, 0] / 4)


@pytest.mark.parametrize(("width", "height"), [(60, 48), (48, 64), (128, 96), (24, 24)])
def test_a_picture_of_the_wrong_size_names_camera_and_sizes(make: Make, width: int, height: int) -> None:
    maker = make(ring(2, width=64, height=48))
    with pytest.raises(CalibrationError, match=rf"'cam_1'.* {width}x{height}, .*64x48; calibrate"):
        maker(frame_set([frame("cam_0", 1, grey(9)), frame("cam_1", 1, grey(9, width, height))]))


def test_a_torn_jpeg_names_its_camera_and_the_next_set_works(make: Make) -> None:
    maker = make(ring(2))
    whole = frame("cam_1", 1, grey(90), encoding="jpeg")
    torn = replace(whole, data=np.zeros(10, np.uint8))
    with pytest.raises(WireError, match="cam_1"):
        maker(frame_set([frame("cam_0", 1, grey(9)), torn]))
    assert maker(frame_set([whole])).mask.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_a_set_of_strangers_is_refused(make: Make) -> None:
    with pytest.raises(CalibrationError, match=r"set 4: none of its cameras \(cam_9\)"):
        make(ring(2))(frame_set([frame("cam_9", 4, grey(9))]))


def test_the_decoder_never_goes_below_the_network() -> None:
    assert [decoder_reduction(640, 480, s) for s in (8.0, 4.0, 3.9, 1.9)] == [8, 4, 2, 1]
    assert decoder_reduction(642, 480, 4.0) == 2 and decoder_reduction(641, 480, 8.0) == 1
