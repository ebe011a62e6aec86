"""Pictures to check networks with where there is no take: the model's own mean head, shaded, in a ring of cameras."""

import cv2
import numpy as np

from streamer.geometry import look_at, vertex_normals
from streamer.types import F32, U8, Calibration, Camera, Frame, FrameSet, Topology

DISTANCE_M = 1.0
FOCAL = 1.6
"""Focal length over the pictures' height."""
TURN = np.radians(220)
"""Angle that the ring covers."""
LIGHT = np.array([0.4, 0.6, 0.7])
SKIN = np.array([205.0, 160.0, 135.0])
STEP_NS = 33_333_333


def stand_in_rig(views: int, width: int, height: int) -> Calibration:
    """Cameras `cam_0`.. on an arc around the head, at two heights in turn."""
    cameras = []
    for k in range(views):
        angle = TURN * (k / max(1, views - 1) - 0.5)
        place = DISTANCE_M * np.array([np.sin(angle), 0.25 * (-1) ** k, np.cos(angle)])
        K = np.array([[FOCAL * height, 0, (width - 1) / 2], [0, FOCAL * height, (height - 1) / 2], [0, 0, 1]])
        cameras.append(Camera(f"cam_{k}", f"stand-in-{k}", width, height, K, np.zeros(5), look_at(place, np.zeros(3))))
    return Calibration(tuple(cameras), "stand-in")


def drawn(topology: Topology, vertices: F32, camera: Camera) -> U8:
    """Draw a mesh (N, 3) in metres, world: (H, W, 3) RGB, farther triangles first."""
    local = vertices @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    pixel = (local @ camera.K.T)[:, :2] / local[:, 2:]
    normals = vertex_normals(vertices.astype(np.float64), topology.triangles)
    light = np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    # a wave over the surface, so that skin is not of one colour
    wave = 14 * np.sin(vertices @ np.array([210.0, 170.0, 130.0]))
    colour = np.clip((0.35 + 0.65 * light[:, None]) * SKIN + wave[:, None], 0, 255)
    corners = topology.triangles
    facing = np.einsum(
        "ti,ti->t", normals[corners].mean(1) @ camera.camera_from_world[:3, :3].T, local[corners].mean(1)
    )
    order = [t for t in np.argsort(-local[corners, 2].mean(1)) if facing[t] < 0]
    rows = np.linspace(60, 110, camera.height)[:, None, None]
    picture = np.ascontiguousarray(np.broadcast_to(rows, (camera.height, camera.width, 3)), np.float32)
    shift = 4  # bits of a pixel's fraction
    points = np.round((pixel[corners]) * (1 << shift)).astype(np.int32)
    shades = colour[corners].mean(1)
    for t in order:
        cv2.fillConvexPoly(picture, points[t], shades[t].tolist(), cv2.LINE_AA, shift)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def stand_in_sets(topology: Topology, calibration: Calibration, count: int) -> list[FrameSet]:
    """Frame sets of the mean head, turned a little further in each."""
    sets = []
    for number in range(count):
        angle = 0.12 * number
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        vertices = np.asarray(topology.template @ turn.T + [0.01 * number, 0, 0], np.float32)
        time_ns = number * STEP_NS
        members = {
            camera.id: Frame(
                camera.id, number, number, number, time_ns, "host", time_ns, time_ns, camera.width, camera.height,
                "rgb8", drawn(topology, vertices, camera),
            )
            for camera in calibration.cameras
        }  # fmt: skip
        sets.append(FrameSet(number, members, {}, 0, calibration.cameras[0].id, 0))
    return sets
