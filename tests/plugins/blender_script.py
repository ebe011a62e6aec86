"""Runs inside Blender (bpy as a module): uses the add-on as a user would and tells what the scene holds, a line a step.

python blender_script.py PLUGINS_FOLDER PORT
"""

import importlib
import json
import sys
import time

import bpy
import numpy as np

sys.path.insert(0, sys.argv[1])
import mien_live

mien_live.register()
session = importlib.import_module("mien_live.addon").session  # it can be imported after `register` only

PATIENCE_S = 45.0
scene = bpy.context.scene


def pump_until(done):
    """Pump as Blender's timer does (timers do not run without a window)."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up; the add-on says: {session.status}")
        session.pump(scene)
        time.sleep(0.001)


def read(attribute, name, width, dtype):
    values = np.empty(len(attribute) * width, dtype)
    attribute.foreach_get(name, values)
    return values.reshape(-1, width).tolist()


def say(step):
    """Send a step to the test that waits for it."""
    sys.stdout.write(json.dumps(step) + "\n")
    sys.stdout.flush()


def tell(step):
    """Say what Blender itself makes of the head."""
    bpy.context.view_layer.update()
    head = scene.mien.head
    mesh = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    say(
        {
            "step": step,
            "objects": [thing.name for thing in scene.objects if thing.type == "MESH"],
            "name": head.name,
            "positions": read(mesh.vertices, "co", 3, np.float32),
            "normals": read(mesh.polygons, "normal", 3, np.float32),
            "centres": read(mesh.polygons, "center", 3, np.float32),
            "triangles": np.array(read(mesh.loops, "vertex_index", 1, np.int32)).reshape(-1, 3).tolist(),
            "uv": read(mesh.uv_layers[0].data, "uv", 2, np.float32),
            "smooth": all(polygon.use_smooth for polygon in mesh.polygons),
            "dimensions": list(head.dimensions),
            "materials": [slot.name for slot in head.material_slots],
            "applied": session.applied,
            "status": session.status,
        }
    )


def applied_more(count):
    target = session.applied + count
    return lambda: session.applied >= target


for thing in list(bpy.data.objects):
    bpy.data.objects.remove(thing)
assert not bpy.ops.mien.disconnect.poll()
scene.mien.host, scene.mien.port = "127.0.0.1", int(sys.argv[2])
assert bpy.ops.mien.connect() == {"FINISHED"}
pump_until(applied_more(30))
tell("live")

scene.mien.head.name = "Renamed"
scene.mien.head.data.materials.append(bpy.data.materials.new("Skin"))
vertices = len(scene.mien.head.data.vertices)
pump_until(lambda: len(scene.mien.head.data.vertices) != vertices)
pump_until(applied_more(2))
tell("other topology")

bpy.context.view_layer.objects.active = scene.mien.head
bpy.ops.object.mode_set(mode="EDIT")
pump_until(lambda: "is being edited" in session.status)
bpy.ops.object.mode_set(mode="OBJECT")
pump_until(applied_more(2))
tell("after editing")

bpy.ops.object.select_all(action="DESELECT")
scene.mien.head.select_set(True)
assert bpy.ops.object.delete() == {"FINISHED"}  # out of the scene; the add-on's pointer keeps the object alive
pump_until(applied_more(2))
tell("after deleting")

say({"step": "restart"})
pump_until(lambda: "mien serve" in session.status)
pump_until(applied_more(2))
tell("after a restart")

assert bpy.ops.mien.disconnect() == {"FINISHED"}
assert session.status == "not connected"
mien_live.unregister()
assert not hasattr(bpy.types.Scene, "mien")
mien_live.register()  # a second time, as Blender does when the add-on is switched off and on
mien_live.unregister()
say({"step": "done"})
