"""Makes the sample level: a live head, a camera before its face, light.

In the editor, with the Python Editor Script Plugin on: Tools > Execute Python Script. Written against the documented
Python API of Unreal 5.4, not run by us.
"""

import unreal

LEVEL = "/Game/MienSample"


def make(level: str = LEVEL) -> None:
    """Make and open the level; the head stands at the origin, as the rig has it, 1 m of the rig being 100 units."""
    unreal.get_editor_subsystem(unreal.LevelEditorSubsystem).new_level(level)
    actors = unreal.get_editor_subsystem(unreal.EditorActorSubsystem)
    head = actors.spawn_actor_from_class(unreal.MienHeadActor, unreal.Vector(0, 0, 0))
    head.set_actor_label("Mien Head")
    # The face looks along +X: the camera stands there and looks back.
    camera = actors.spawn_actor_from_class(unreal.CameraActor, unreal.Vector(80, 0, 0), unreal.Rotator(0, 0, 180))
    camera.set_actor_label("Before the face")
    camera.get_component_by_class(unreal.CameraComponent).set_editor_property("field_of_view", 35.0)
    sun = actors.spawn_actor_from_class(
        unreal.DirectionalLight, unreal.Vector(100, 0, 100), unreal.Rotator(0, -35, 160)
    )
    sun.set_actor_label("Light")
    sky = actors.spawn_actor_from_class(unreal.SkyLight, unreal.Vector(0, 0, 100))
    sky.set_actor_label("Sky")
    unreal.get_editor_subsystem(unreal.LevelEditorSubsystem).save_current_level()


if __name__ == "__main__":
    make()
