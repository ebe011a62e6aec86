"""What Blender shows: settings in the scene, two operators, a panel, and the timer that moves the head."""

import bpy

from .client import Client
from .live_head import HeldError, build, fits, pose

PERIOD_S = 1 / 60


class Session:
    """The one connection of this Blender. `pump` runs in the main thread; only there is bpy touched."""

    def __init__(self) -> None:
        """Be disconnected."""
        self.client: Client | None = None
        self.applied = 0
        self._topology = None
        self._held = ""

    @property
    def status(self) -> str:
        """One line for people."""
        if self.client is None:
            return "not connected"
        return self._held or self.client.status

    def connect(self, host: str, port: int) -> None:
        """Connect, in place of an older connection."""
        self.disconnect()
        self.client = Client(host, port)

    def disconnect(self) -> None:
        """Hang up; the head stays as it is."""
        client, self.client = self.client, None
        self._topology, self._held = None, ""
        if client is not None:
            client.close()

    def pump(self, scene: "bpy.types.Scene") -> bool:
        """Bring the newest head into the scene; return whether there was one."""
        if self.client is None:
            return False
        topology, frame = self.client.take()
        if topology is not None:
            self._topology = topology
        if frame is None or self._topology is None:
            return False
        settings = scene.mien
        try:
            head = settings.head
            if head is not None and head.name not in scene.objects:
                head = None  # deleted by hand; the pointer keeps its data alive
            if head is None or not fits(head, self._topology):
                head = settings.head = build(self._topology, head, scene.collection)
            pose(head, frame.positions)
        except HeldError as error:
            self._held = str(error)
            return False
        self._held = ""
        self.applied += 1
        return True


session = Session()


def _is_ours(_: object, candidate: "bpy.types.Object") -> bool:
    """Offer heads of earlier sessions only: a new topology replaces the geometry of the object."""
    return "mien_topology" in candidate


class MienSettings(bpy.types.PropertyGroup):
    """Where the gateway is, and which object is the head; kept in the file."""

    host: bpy.props.StringProperty(name="Host", default="127.0.0.1", description="Address of `mien serve`")
    port: bpy.props.IntProperty(name="Port", default=5750, min=1, max=65535, description="serve.tcp_port")
    head: bpy.props.PointerProperty(
        name="Head", type=bpy.types.Object, poll=_is_ours, description="The object that follows"
    )


class MIEN_OT_connect(bpy.types.Operator):
    """Connect to Mien and let the head follow."""

    bl_idname = "mien.connect"
    bl_label = "Connect"

    def execute(self, context: "bpy.types.Context") -> set[str]:
        """Begin; the connection is made, and made again, in the background."""
        session.connect(context.scene.mien.host, context.scene.mien.port)
        if not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, persistent=True)
        return {"FINISHED"}


class MIEN_OT_disconnect(bpy.types.Operator):
    """Hang up; the head stays as it is."""

    bl_idname = "mien.disconnect"
    bl_label = "Disconnect"

    @classmethod
    def poll(cls, context: "bpy.types.Context") -> bool:
        """Offer it while there is a connection."""
        return session.client is not None

    def execute(self, context: "bpy.types.Context") -> set[str]:
        """End."""
        session.disconnect()
        return {"FINISHED"}


class MIEN_PT_live(bpy.types.Panel):
    """The panel in the sidebar of the 3D view."""

    bl_label = "Mien"
    bl_category = "Mien"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: "bpy.types.Context") -> None:
        """Show address, buttons and status."""
        settings, column = context.scene.mien, self.layout.column()
        fields = column.column()
        fields.enabled = session.client is None
        fields.prop(settings, "host")
        fields.prop(settings, "port")
        column.prop(settings, "head")
        column.operator("mien.disconnect" if session.client else "mien.connect")
        column.label(text=session.status)
        if session.client is not None:
            received, skipped = session.client.counts
            column.label(text=f"{received} heads received, {session.applied} shown, {skipped} skipped")


def _tick() -> float | None:
    if session.client is None:
        return None
    before = session.status
    if session.pump(bpy.context.scene) or session.status != before:
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                if area.type == "VIEW_3D":
                    area.tag_redraw()
    return PERIOD_S


CLASSES = (MienSettings, MIEN_OT_connect, MIEN_OT_disconnect, MIEN_PT_live)


def register() -> None:
    """Add everything to Blender."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.mien = bpy.props.PointerProperty(type=MienSettings)


def unregister() -> None:
    """Take everything out of Blender, and hang up."""
    session.disconnect()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    del bpy.types.Scene.mien
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
