"""What clients ask for: forms of a head, the secret, TLS; and packets of weights to tools that know no Mien."""

import shutil
import socket
import ssl
import subprocess
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle import OscBundle
from websockets.sync.client import connect

from streamer.config import DatagramConfig, ServeConfig
from streamer.errors import TransportError, WireError
from streamer.gateway.clients import Edition, Shown
from streamer.gateway.datagrams import Datagrams, Pacer
from streamer.gateway.decoding import decode_frame, decode_record, decode_topology
from streamer.gateway.encoding import Form, encode_frame, encode_topology
from streamer.gateway.live_link import NAMES, LiveLinkFace, head_angles
from streamer.gateway.osc import turn
from streamer.gateway.pulse import Pulse
from streamer.gateway.records import Kind, encode_request
from streamer.gateway.server import GatewayServer
from streamer.gateway.variants import TARGETS, Variant, for_target, parse_request
from streamer.geometry import AXES, rotations_of, vertex_normals
from tests.streamer.gateway_makers import ANY_PORT, TcpClient, decoded, head, mesh, received

HEAD = head()


def test_targets_are_those_of_the_table() -> None:
    for name, row in TARGETS.items():
        variant = for_target(name)
        assert (variant.space.matrix == AXES[row].matrix).all() and variant.clockwise == AXES[row].reverse_winding


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ('{"target": 1}', "no text"), ('{"target": "maya"}', "unknown"), ('{"axes": ["x", "y"]}', "expected three"),
        ('{"axes": ["x", "y", "y"]}', "expected three"), ('{"axes": ["x", "--y", "z"]}', "expected three"),
        ('{"axes": "xyz"}', "expected three"), ('{"axes": [1, "y", "z"]}', "expected three"),
        ('{"unit": "inch"}', "m, cm, mm"), ('{"winding": "left"}', "counter-clockwise"),
        ('{"normals": 1}', "neither true nor false"), ("[]", "no JSON object"), ("{", "not JSON"),
        ('{"token": 5}', "no text"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_is_named(asked: str, told: str) -> None:
    with pytest.raises(WireError, match=told):
        parse_request(asked.encode())


@given(st.binary(max_size=60))
def test_no_request_does_more_than_raise(data: bytes) -> None:
    try:
        parse_request(data)
    except WireError as error:
        assert str(error)


def test_own_axes_stand_in_place_of_the_targets() -> None:
    variant = parse_request(b'{"target":"unity","axes":["-y","z","x"],"unit":"mm","later":1}').variant
    assert variant.target == "own" and variant.clockwise
    points = decode_frame(decode_record(encode_frame(mesh(HEAD), 0, HEAD, variant))).positions
    x, y, z = mesh(HEAD).vertices.T.astype(float)
    np.testing.assert_allclose(points, 1000 * np.stack([-y, z, x], 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", ["mien", "unity", "unreal"])
def test_quantised_heads_are_within_half_a_step(target: str) -> None:
    variant = replace(for_target(target), normals=True)
    exact = decode_frame(decode_record(encode_frame(mesh(HEAD), 0, HEAD, variant)))
    coarse = decode_frame(decode_record(encode_frame(mesh(HEAD), 0, HEAD, replace(variant, quantised=True))))
    step, metre = np.ptp(exact.positions, axis=0).max() / 65535, np.abs(variant.space.matrix).max()
    assert step < 5e-6 * metre and np.abs(coarse.positions - exact.positions).max() < 0.51 * step + 2e-8 * metre
    assert coarse.normals is not None and exact.normals is not None
    assert np.abs(coarse.normals - exact.normals).max() < 0.51 / 127
    expected = vertex_normals(HEAD.template, HEAD.triangles) @ np.sign(variant.space.matrix).T
    np.testing.assert_allclose(exact.normals, expected, atol=1e-5)


def test_split_vertices_have_one_pair_of_texture_coordinates() -> None:
    seam = type(HEAD)(
        "seam", HEAD.triangles, np.random.default_rng(1).random((9, 2)), HEAD.triangles % 9, HEAD.template
    )
    told = decode_topology(decode_record(encode_topology(seam, Variant(split=True))))
    frame = decode_frame(decode_record(encode_frame(mesh(seam, weights=None), 0, seam, Variant(split=True))))
    assert told.source is not None and told.uv is not None and told.uv_triangles is not None
    assert told.triangles.tolist() == told.uv_triangles.tolist() and len(told.uv) == told.vertices == len(
        frame.positions
    )
    assert (told.source[told.triangles] == seam.triangles).all()
    assert (told.uv[told.triangles] == seam.uv[seam.uv_triangles]).all()
    assert (frame.positions == mesh(seam).vertices[told.source]).all()


def test_a_client_may_ask_at_any_time_and_both_ports_answer() -> None:
    with GatewayServer(ANY_PORT) as server, TcpClient(server.tcp_port) as tcp, connect(server.endpoints[1]) as web:
        assert tcp.expect(Kind.HELLO)["target"] == decoded(received(web))["target"] == "mien"
        shown = Shown(HEAD)
        server.announce(shown)
        assert tcp.expect(Kind.TOPOLOGY).triangles[0].tolist() == HEAD.triangles[0].tolist()
        received(web)
        asked = encode_request(target="godot", normals=True)
        tcp.socket.sendall(asked[:7])
        tcp.socket.sendall(asked[7:])
        web.send(asked)
        for hello, topology in (
            (tcp.expect(Kind.HELLO), tcp.expect(Kind.TOPOLOGY)),
            (decoded(received(web)), decoded(received(web))),
        ):
            assert (hello["target"], hello["winding"], hello["normals"]) == ("godot", "clockwise", True)
            assert topology.triangles[0].tolist() == HEAD.triangles[0, [0, 2, 1]].tolist()
        server.offer(Edition(shown, mesh(HEAD), 1))
        assert tcp.expect(Kind.FRAME).normals is not None and decoded(received(web)).normals is not None
        web.send(encode_request(mesh=False))
        assert [received(web).header.kind for _ in range(2)] == [Kind.HELLO, Kind.TOPOLOGY]
        server.offer(Edition(shown, mesh(HEAD), 2))
        weights = received(web)
        assert weights.header.kind == Kind.WEIGHTS and decoded(weights).weights.tolist() == [0.25, 0.5]


def test_health_tells_of_silence_and_of_what_was_missed() -> None:
    with GatewayServer(ANY_PORT) as server, TcpClient(server.tcp_port) as client:
        client.healthy = True
        client.expect(Kind.HELLO)
        server.tell("waiting", {"meshes_per_s": 0.0}, "no head came for 2 s")
        told = client.expect(Kind.HEALTH)
    assert told == {
        "state": "waiting",
        "message": "no head came for 2 s",
        "meshes_per_s": 0,
        "clients": 1,
        "skipped": 0,
    }
    pulse = Pulse()
    assert pulse.due(0.0) and not pulse.due(0.9) and pulse.due(1.0)
    assert pulse.report(0.0)[0] == "waiting"
    for number in range(120):
        pulse.beat(number / 60, 7_000_000)
    state, numbers, message = pulse.report(2.0)
    assert (state, numbers["age_ms"], message) == ("live", 7.0, "") and 59 <= numbers["meshes_per_s"] <= 60
    assert pulse.report(4.0)[0] == "waiting" and pulse.report(9.0)[1]["meshes_per_s"] == 0


def secret(folder: Path, text: str = "correct horse battery") -> str:
    path = folder / "token"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_who_does_not_know_the_secret_sees_nothing(tmp_path: Path) -> None:
    config = ServeConfig(tcp_port=0, websocket_port=0, token_file=secret(tmp_path))
    with GatewayServer(config) as server:
        shown = Shown(HEAD)
        server.announce(shown)
        with TcpClient(server.tcp_port) as friend, TcpClient(server.tcp_port) as stranger:
            assert friend.expect(Kind.HELLO)["token"] and stranger.expect(Kind.HELLO)["token"]
            server.offer(Edition(shown, mesh(HEAD), 0))
            friend.socket.sendall(encode_request(token="correct horse battery"))
            stranger.socket.sendall(encode_request(token="wrong"))
            assert "serve.token_file" in stranger.expect(Kind.END) and stranger.next() is None
            assert not friend.expect(Kind.HELLO)["token"]
            assert friend.expect(Kind.TOPOLOGY).id == HEAD.id
        with connect(server.endpoints[1]) as web:
            received(web)
            web.send(encode_request(target="unity"))
            assert "token" in decoded(received(web))


@pytest.mark.parametrize(("text", "mode", "told"), [("short", 0o600, "5 characters"), ("x" * 20, 0o644, "chmod 600")])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str, mode: int, told: str) -> None:
    path = Path(secret(tmp_path, text))
    path.chmod(mode)
    with pytest.raises(TransportError, match=told):
        GatewayServer(ServeConfig(tcp_port=0, websocket_port=0, token_file=str(path)))


def test_with_a_secret_other_addresses_are_served(tmp_path: Path) -> None:
    config = ServeConfig(host="0.0.0.0", tcp_port=0, websocket_port=0, token_file=secret(tmp_path))
    with GatewayServer(config) as server, TcpClient(server.tcp_port) as client:
        assert client.expect(Kind.HELLO)["token"] is True


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for localhost, made here."""
    names = folder / "cert.pem", folder / "key.pem"
    made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command = ["openssl", *made, "-addext", "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]]
    subprocess.run(command, check=True, capture_output=True)
    return str(names[0]), str(names[1])


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_both_ports_speak_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with pytest.raises(TransportError, match="both"):
        GatewayServer(ServeConfig(tcp_port=0, websocket_port=0, tls_certificate=cert))
    wide = head("wide", segments=120, rings=83)
    with GatewayServer(ServeConfig(tcp_port=0, websocket_port=0, tls_certificate=cert, tls_key=key)) as server:
        shown = Shown(wide)
        server.announce(shown)
        trust = ssl.create_default_context(cafile=cert)
        with TcpClient(server.tcp_port) as plain, TcpClient(server.tcp_port) as safe:
            plain.socket.sendall(b"no hello, this is not TLS")
            safe.socket = trust.wrap_socket(safe.socket, server_hostname="127.0.0.1")
            safe.expect(Kind.HELLO)
            safe.expect(Kind.TOPOLOGY)
            with connect(server.endpoints[1], ssl=trust) as web:
                assert [received(web).header.kind for _ in range(2)] == [Kind.HELLO, Kind.TOPOLOGY]
                server.offer(Edition(shown, mesh(wide), 0))
                for frame in (safe.expect(Kind.FRAME), decoded(received(web))):
                    assert frame.positions.tobytes() == mesh(wide).vertices.tobytes()
            with suppress(ConnectionResetError):
                assert b"HCM1" not in plain.socket.recv(1 << 16)


def test_a_live_link_packet_has_the_bytes_that_unreal_expects() -> None:
    """The layout of reference decoders: version, length-prefixed id and name, frame time, 61 floats, big-endian."""
    weights = {name: k / 100 for k, name in enumerate(NAMES)}
    packet = LiveLinkFace("MienHead").encode(weights, np.eye(4, dtype=np.float32), 86_400_000_000_000 + 1_508_333_333)
    assert len(packet) == 314 and packet[:5] == b"\x06\x00\x00\x00$"
    uuid.UUID(packet[5:41].decode())
    assert packet[41:53] == b"\x00\x00\x00\x08MienHead"
    frame, part, rate, one = np.frombuffer(packet[53:69], np.dtype("i4,f4,i4,i4").newbyteorder(">"))[0]
    assert (frame, rate, one) == (90, 60, 1) and part == pytest.approx(0.5, abs=1e-5)
    assert packet[69] == 61 and len(NAMES) == 52
    values = np.frombuffer(packet[70:], ">f4")
    np.testing.assert_allclose(values[:52], np.arange(52) / 100, rtol=1e-6)
    assert [NAMES[k] for k in (0, 7, 14, 17, 18, 23, 41, 43, 51)] == [
        "eyeBlinkLeft", "eyeBlinkRight", "jawForward", "jawOpen", "mouthClose", "mouthSmileLeft", "browDownLeft",
        "browInnerUp", "tongueOut",
    ]  # fmt: skip


def test_head_angles_are_those_of_unreal() -> None:
    def turned(axis: int, angle: float) -> np.ndarray:
        pose, (i, j) = np.eye(4, dtype=np.float32), ((axis + 1) % 3, (axis + 2) % 3)
        pose[i, i] = pose[j, j] = np.cos(angle)
        pose[j, i], pose[i, j] = np.sin(angle), -np.sin(angle)
        return pose

    assert head_angles(turned(1, -0.3)) == pytest.approx((0.3, 0, 0), abs=1e-6), "to the person's right"
    assert head_angles(turned(0, -0.3)) == pytest.approx((0, 0.3, 0), abs=1e-6), "upwards"
    assert head_angles(turned(2, 0.3)) == pytest.approx((0, 0, 0.3), abs=1e-6), "the crown towards the right shoulder"


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_quaternion_turns_as_its_matrix_does(q: list[float]) -> None:
    x, y, z, w = np.array(q) / np.linalg.norm(q)
    rotation = rotations_of(np.array([w, x, y, z]))
    found = np.array(turn(rotation))
    sign = np.sign(found @ [x, y, z, w])
    np.testing.assert_allclose(found * sign, [x, y, z, w], atol=1e-6)


def test_packets_reach_tools_and_python_osc_reads_them() -> None:
    names = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for listener in names:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(20)
    link, osc, vmc = (DatagramConfig(f"127.0.0.1:{listener.getsockname()[1]}") for listener in names)
    sent = mesh(HEAD, weights=np.array([0.25, 0.5], np.float32))
    sent.world_from_head[0, 3] = 0.125
    with Datagrams(ServeConfig(live_link=link, osc=osc, vmc=vmc)) as outputs:
        outputs.send(sent, HEAD, 0.0)
        assert outputs.counters()["packets.sent.live_link"] == 1
        outputs.send(sent, HEAD, 0.001)
        assert outputs.counters()["packets.sent.live_link"] == 1, "more than the rate allows"
    packet = names[0].recv(2000)
    assert np.frombuffer(packet[-244:], ">f4")[[17, 18]].tolist() == [0.25, 0.5], "jawOpen, mouthClose"
    plain = {message.address: message.params for message in OscBundle(names[1].recv(2000))}
    assert plain["/mien/jawOpen"] == [0.25] and plain["/mien/head/position"] == [0.125, 0, 0]
    assert plain["/mien/head/rotation"] == [0, 0, 0, 1]
    told = [(message.address, message.params) for message in OscBundle(names[2].recv(2000))]
    assert ("/VMC/Ext/Blend/Val", ["JawOpen", 0.25]) in told and told[-1] == ("/VMC/Ext/Blend/Apply", [])
    assert ("/VMC/Ext/Tra/Pos", ["Mien", -0.125, 0, 0, 0, 0, 0, 1]) in told, "Unity's axes"
    for listener in names:
        listener.close()


def test_all_52_weights_fit_into_packets_that_are_not_torn() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(20)
        full = type(HEAD)("full", HEAD.triangles, HEAD.uv, HEAD.uv_triangles, HEAD.template, NAMES)
        target = DatagramConfig(f"127.0.0.1:{listener.getsockname()[1]}")
        with Datagrams(ServeConfig(vmc=target)) as outputs:
            outputs.send(mesh(full, weights=np.linspace(0, 1, 52, dtype=np.float32)), full, 0.0)
            packets = [listener.recv(65536) for _ in range(outputs.counters()["packets.sent.vmc"])]
    assert len(packets) > 1 and all(len(packet) <= 1400 for packet in packets)
    values = [m.params for packet in packets for m in OscBundle(packet) if m.address == "/VMC/Ext/Blend/Val"]
    assert [name for name, _ in values] == [name[:1].upper() + name[1:] for name in NAMES]


@pytest.mark.parametrize("target", ["here", "127.0.0.1:0", "127.0.0.1:70000", ":11111"])
def test_a_target_that_is_none_is_named(target: str) -> None:
    with pytest.raises(TransportError, match=r"serve\.osc\.target"):
        Datagrams(ServeConfig(osc=DatagramConfig(target)))


@given(st.floats(0.2, 3.0), st.lists(st.floats(-0.3, 0.3), min_size=50, max_size=50))
def test_a_rate_is_kept_and_a_stream_of_this_rate_passes_whole(factor: float, jitter: list[float]) -> None:
    pacer = Pacer(10.0)
    times = [(k + off) * 0.1 / factor for k, off in enumerate(jitter)]
    passed = sum(pacer.admit(now) for now in times)
    assert passed <= (times[-1] - times[0]) * 10 + 2
    if factor <= 1:
        assert passed == len(times)


def test_a_form_costs_nothing_twice() -> None:
    shown = Shown(HEAD)
    assert shown.parcel(Variant()) is shown.parcel(for_target("mien")) and isinstance(shown.form(Variant()), Form)
