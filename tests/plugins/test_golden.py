"""The golden files are what the encoder makes; the head in them is the right way round in every program."""

import numpy as np
import pytest

from streamer.geometry import transform
from tests.plugins.golden import (
    FOLDER,
    HEAD,
    LEFT_EAR,
    NOSE,
    TARGETS,
    converted,
    dump,
    files,
    head_stream,
    lopsided,
    target_stream,
)
from tests.streamer.gateway_makers import outward


def test_the_golden_files_are_what_the_encoder_makes() -> None:
    """They are written by `python -m tests.plugins.golden`."""
    made = files()
    for name, content in made.items():
        assert (FOLDER / name).read_bytes() == content, f"{name} differs"
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there == set(made) | {"stream.bin"}


def test_the_golden_head_is_lopsided() -> None:
    points = HEAD.template
    assert outward(points, HEAD.triangles)
    assert np.argmax(points[:, 2]) == NOSE and np.argmax(points[:, 0]) == LEFT_EAR
    mirrored = points * [-1, 1, 1]
    nearest = np.linalg.norm(mirrored[:, None] - points[None], axis=2).min(1)
    assert nearest.max() > 0.01, "its mirror image is another head"


FORWARD = {"godot": (0, 0, 1), "blender": (0, -1, 0), "unity": (0, 0, 1), "unreal": (1, 0, 0)}
LEFT = {"godot": (1, 0, 0), "blender": (1, 0, 0), "unity": (-1, 0, 0), "unreal": (0, -1, 0)}
UP = {"godot": (0, 1, 0), "blender": (0, 0, 1), "unity": (0, 1, 0), "unreal": (0, 0, 1)}
LEFT_HANDED, CENTIMETRES = {"unity", "unreal"}, {"unreal"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_head_is_the_right_way_round_in_each_program(target: str) -> None:
    """Nose forward, long ear at the person's left, up is up, the size in its unit; faces out under its own rule."""
    lines = [line.split(" ") for line in dump(b"".join(target_stream(target)))]
    plain = dict(word.partition("=")[::2] for word in next(words for words in lines if words[0] == "frame")[4:])
    told = dict(word.partition("=")[::2] for word in next(words for words in lines if words[0] == "topology")[3:])
    points = np.frombuffer(bytes.fromhex(plain["positions"]), "<f4").reshape(-1, 3).astype(float)
    triangles = np.frombuffer(bytes.fromhex(told["triangles"]), "<u4").reshape(-1, 3)
    metre = 100.0 if target in CENTIMETRES else 1.0
    forward, left, up = (np.array(axis[target]) for axis in (FORWARD, LEFT, UP))
    assert np.argmax(points @ forward) == NOSE and np.argmax(points @ left) == LEFT_EAR
    assert np.argmax(points @ up) == 0, "vertex 0 is the crown"
    assert np.ptp(points @ up) == pytest.approx(0.257 * metre, rel=1e-5)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)  # counter-clockwise is front: three.js, Blender
    if target in ("godot", "unity", "unreal"):  # front faces are clockwise as the program draws them
        facing = -facing
    if target == "unity":  # in a left-handed space clockwise from outside is (b - a) x (c - a)
        facing = -facing
    if target == "unreal":  # its rule: (c - a) x (b - a)
        facing = np.cross(c - a, b - a)
    centre = (a + b + c) / 3 - points.mean(0)
    assert (np.einsum("ij,ij->i", facing, centre) > 0).all()
    pose = np.frombuffer(bytes.fromhex(plain["pose"]), "<f4").reshape(4, 4).astype(float)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1), "a pose is a rotation in every space"
    head = transform(np.linalg.inv(pose), points)
    assert np.ptp(head @ up) > 0.2 * metre


@pytest.mark.parametrize("target", TARGETS)
def test_the_gateway_turns_a_head_as_a_client_does(target: str) -> None:
    """Positions of the plain frame on request have the bits of the client's own conversion."""
    from streamer.gateway.encoding import Form
    from streamer.gateway.records import encode_hello
    from streamer.gateway.variants import PLAIN
    from tests.plugins.golden import mesh

    form = Form(HEAD, PLAIN)
    plain = b"".join([encode_hello(), form.encode_topology(), form.encode_frame(mesh(HEAD, 0), 0)])
    ours = [converted(line, target) for line in dump(plain)]
    theirs = list(dump(b"".join(target_stream(target)[:3])))
    assert ours[1:] == theirs[1:]


def test_making_it_again_gives_the_same_bytes() -> None:
    assert lopsided().id == HEAD.id and b"".join(head_stream()) == (FOLDER / "head.bin").read_bytes()
