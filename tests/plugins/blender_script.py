"""Runs inside Blender (bpy as a module): uses the add-on as a user would and tells what the scene holds, a line a step.

python blender_script.py PLUGINS_FOLDER PORT NPZ PICTURE
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


def evaluated(thing, frame):
    scene.frame_set(frame)
    mesh = thing.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    return np.array(read(mesh.vertices, "co", 3, np.float32))


def curve_count(owner):
    action = owner.animation_data.action
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return sum(len(bag.fcurves) for bag in bags)


character = bpy.data.objects.new("Character", bpy.data.meshes.new("Character"))
character.data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
scene.collection.objects.link(character)
for name in ("Basis", "JawOpen", "mouthClose", "smile"):
    character.shape_key_add(name=name)
scene.mien.character = character
pump_until(applied_more(2))
keys = character.data.shape_keys
say(
    {
        "step": "shape keys",
        "values": {block.name: block.value for block in keys.key_blocks},
        "properties": [scene.mien.head["jawOpen"], scene.mien.head["mouthClose"]],
        "following": session.following,
    }
)

scene.frame_set(11)
assert bpy.ops.mien.record() == {"FINISHED"}
recorder = session.recorder
pump_until(lambda: len(recorder) > 60)
assert bpy.ops.mien.record() == {"FINISHED"} and session.recorder is None
frames = list(recorder._frames)
taken = bpy.data.objects["Mien Take"]
times = np.array([frame.capture_time_s for frame in frames])
heights = np.array([frame.positions[:, 2] for frame in frames])
wrong = []
for frame in range(11, 11 + int((times[-1] - times[0]) * 24)):
    now = times[0] + (frame - 11) / 24
    expected = [np.interp(now, times, heights[:, k]) for k in range(heights.shape[1])]
    wrong.append(np.abs(evaluated(taken, frame)[:, 2] - expected).max())
scene.frame_set(13)
say(
    {
        "step": "recorded",
        "frames": len(wrong),
        "worst": float(max(wrong)),
        "curves": curve_count(keys),
        "jaw": keys.key_blocks["JawOpen"].value,
        "pose": list(bpy.data.objects["Mien Take pose"].matrix_world.translation),
        "expected pose": [float(np.interp(times[0] + 2 / 24, times, [f.pose[k, 3] for f in frames])) for k in range(3)],
    }
)

scene.mien.character = None
scene.frame_set(1)
assert bpy.ops.mien.import_take(filepath=sys.argv[3]) == {"FINISHED"}
take = bpy.data.objects["take"]
first, second = evaluated(take, 1), evaluated(take, 13)
say(
    {
        "step": "imported",
        "first": first.tolist(),
        "second": second.tolist(),
        "jaw": [take["jawOpen"]],
        "end": scene.frame_end,
        "uv": len(take.data.uv_layers),
    }
)
for path in (__file__, "/nowhere/take.json"):
    try:
        bpy.ops.mien.import_take(filepath=path)
    except RuntimeError as error:
        say({"step": f"refused {path[-4:]}", "told": str(error)})

for thing in list(scene.objects):
    if thing.name != "take":
        bpy.data.objects.remove(thing)
camera, lamp = bpy.data.cameras.new("camera"), bpy.data.lights.new("lamp", "SUN")
lamp.energy = 3
for data, place, turn in ((camera, (0, -0.9, 0), (np.pi / 2, 0, 0)), (lamp, (0, 0, 0), (0.9, -0.4, 0))):
    thing = bpy.data.objects.new(data.name, data)
    thing.location, thing.rotation_euler = place, turn
    scene.collection.objects.link(thing)
scene.camera = bpy.data.objects["camera"]
scene.frame_set(1)
scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 4, False
scene.render.resolution_x = scene.render.resolution_y = 160
scene.render.film_transparent, scene.render.filepath = True, sys.argv[4]
bpy.ops.render.render(write_still=True)
say({"step": "rendered"})

assert bpy.ops.mien.disconnect() == {"FINISHED"}
assert session.status == "not connected"
mien_live.unregister()
assert not hasattr(bpy.types.Scene, "mien")
mien_live.register()  # a second time, as Blender does when the add-on is switched off and on
mien_live.unregister()
say({"step": "done"})
