"""The Blender add-on's connection as a program (no bpy): its status, and the first head of each topology.

python blender_live.py PLUGINS_FOLDER PORT [TOKEN PEM]
"""

import sys
import time

import numpy as np

sys.path.insert(0, sys.argv[1])
from mien_live.client import Client


def say(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


token, pem = [*sys.argv[3:], "", ""][:2]
client, said, topology, fresh = Client("127.0.0.1", int(sys.argv[2]), token, None, bool(pem), pem), "", None, False
while True:
    if client.status != said:
        said = client.status
        say("status", said)
    newest, frame = client.take()
    if newest is not None:
        topology, fresh = newest, True
    if frame is not None and topology is not None and fresh:
        fresh = False
        text = {"vertices": frame.positions, "triangles": np.asarray(topology.triangles, np.uint32)}
        arrays = " ".join(f"{name}={values.tobytes().hex()}" for name, values in text.items())
        say(f"head {topology.name.replace(' ', '_')} {arrays} jaw={frame.weights[0]:g}")
    time.sleep(0.002)
