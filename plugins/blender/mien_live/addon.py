"""What Blender shows: settings in the scene, operators, a panel, and the timer that moves the head."""

from pathlib import Path

import bpy
from bpy_extras.io_utils import ImportHelper

from .client import Client
from .importing import TakeImportError, export_take, import_npz
from .live_head import HeldError, build, express, fits, pose
from .recording import Recorder
from .records import Frame

PERIOD_S = 1 / 120
"""Twice as often as heads come: at their own rate every other one would be late, some never shown."""


class Session:
    """The one connection of this Blender. `pump` runs in the main thread; only there is bpy touched."""

    def __init__(self) -> None:
        """Be disconnected."""
        self.client: Client | None = None
        self.applied = 0
        self.newest: Frame | None = None
        """The head that is shown."""
        self.following = 0
        """Shape keys of the character that follow."""
        self.recorder: Recorder | None = None
        self._topology = None
        self._held = ""

    @property
    def status(self) -> str:
        """One line for people."""
        if self.client is None:
            return "not connected"
        return self._held or self.client.status

    def connect(self, host: str, port: int, token: str = "", tls: bool = False, certificate: str = "") -> None:
        """Connect, in place of an older connection."""
        self.disconnect()
        self.client = Client(host, port, token, self._hear, tls, certificate)

    def _hear(self, frame: Frame) -> None:
        recorder = self.recorder  # another thread than Blender's
        if recorder is not None:
            recorder.hear(frame)

    def record(self) -> None:
        """Begin to keep every head.

        Raises:
            HeldError: none has come yet.
        """
        if self._topology is None:
            raise HeldError("no head has come yet; connect first")
        self.recorder = Recorder(self._topology)

    def stop(self, scene: "bpy.types.Scene") -> "bpy.types.Object | None":
        """End the recording and write it; None if nothing was kept."""
        recorder, self.recorder = self.recorder, None
        if recorder is None or scene.mien.head is None:
            return None
        return recorder.write(scene, scene.mien.head, scene.mien.character)

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
            if frame.weights is not None:
                self.following = express(head, settings.character, self._topology.units, frame.weights)
        except HeldError as error:
            self._held = str(error)
            return False
        self._held = ""
        self.applied, self.newest = self.applied + 1, frame
        return True


session = Session()


def _has_keys(_: object, candidate: "bpy.types.Object") -> bool:
    """Offer objects with shape keys."""
    return candidate.type == "MESH" and candidate.data.shape_keys is not None


def _is_ours(_: object, candidate: "bpy.types.Object") -> bool:
    """Offer heads of earlier sessions only: a new topology replaces the geometry of the object."""
    return "mien_topology" in candidate


class MienSettings(bpy.types.PropertyGroup):
    """Where the gateway is, and which object is the head; kept in the file."""

    host: bpy.props.StringProperty(name="Host", default="127.0.0.1", description="Address of `mien serve`")
    port: bpy.props.IntProperty(name="Port", default=5750, min=1, max=65535, description="serve.tcp_port")
    token: bpy.props.StringProperty(
        name="Token", subtype="PASSWORD", options={"SKIP_SAVE"}, description="Secret of serve.token_file, if it is set"
    )
    tls: bpy.props.BoolProperty(name="TLS", description="Whether the gateway has serve.tls_certificate")
    certificate: bpy.props.StringProperty(
        name="Certificate", subtype="FILE_PATH", description="That PEM file, if this machine does not trust it anyway"
    )
    head: bpy.props.PointerProperty(
        name="Head", type=bpy.types.Object, poll=_is_ours, description="The object that follows"
    )
    character: bpy.props.PointerProperty(
        name="Character",
        type=bpy.types.Object,
        poll=_has_keys,
        description="Its shape keys with ARKit names (jawOpen, ...) follow the weights",
    )


class MIEN_OT_connect(bpy.types.Operator):
    """Connect to Mien and let the head follow."""

    bl_idname = "mien.connect"
    bl_label = "Connect"

    def execute(self, context: "bpy.types.Context") -> set[str]:
        """Begin; the connection is made, and made again, in the background."""
        settings = context.scene.mien
        certificate = bpy.path.abspath(settings.certificate) if settings.certificate else ""
        session.connect(settings.host, settings.port, settings.token, settings.tls, certificate)
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


class MIEN_OT_record(bpy.types.Operator):
    """Keep every head from now on; a second click writes them into actions and a vertex cache."""

    bl_idname = "mien.record"
    bl_label = "Record"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - Blender reads it

    @classmethod
    def poll(cls, context: "bpy.types.Context") -> bool:
        """Offer it while there is a connection or a recording."""
        return session.client is not None or session.recorder is not None

    def execute(self, context: "bpy.types.Context") -> set[str]:
        """Begin or end."""
        try:
            if session.recorder is None:
                session.record()
                return {"FINISHED"}
            count, taken = len(session.recorder), session.stop(context.scene)
        except (HeldError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if taken is None:
            self.report({"WARNING"}, "no head came; nothing was written")
            return {"CANCELLED"}
        self.report({"INFO"}, f"{count} heads in '{taken.name}'")
        return {"FINISHED"}


class MIEN_OT_import(bpy.types.Operator, ImportHelper):
    """Bring a take into the scene: an NPZ of `mien export`, or the take.json in a take's folder."""

    bl_idname = "mien.import_take"
    bl_label = "Import Mien Take"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - Blender reads it

    filter_glob: bpy.props.StringProperty(default="*.npz;take.json", options={"HIDDEN"})

    def execute(self, context: "bpy.types.Context") -> set[str]:
        """Import; a take's folder is exported first."""
        path = Path(self.filepath)
        try:
            if path.name == "take.json" or path.is_dir():
                preferences = context.preferences.addons.get(__package__)
                command = preferences.preferences.command if preferences else "mien"
                path = export_take(path if path.is_dir() else path.parent, command)
            taken = import_npz(path, context.scene, context.scene.mien.character)
        except TakeImportError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"'{taken.name}' plays from frame {context.scene.frame_current}")
        return {"FINISHED"}


class MienPreferences(bpy.types.AddonPreferences):
    """What belongs to this machine."""

    bl_idname = __package__

    command: bpy.props.StringProperty(
        name="Mien's command", default="mien", description="How mien is started: imports of take folders run it"
    )

    def draw(self, _: "bpy.types.Context") -> None:
        """Show it."""
        self.layout.prop(self, "command")


def _menu(self: "bpy.types.Menu", _: "bpy.types.Context") -> None:
    self.layout.operator(MIEN_OT_import.bl_idname, text="Mien Take (.npz, take.json)")


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
        fields.prop(settings, "token")
        fields.prop(settings, "tls")
        if settings.tls:
            fields.prop(settings, "certificate")
        column.prop(settings, "head")
        column.prop(settings, "character")
        column.operator("mien.disconnect" if session.client else "mien.connect")
        column.label(text=session.status)
        if session.client is not None:
            received, skipped = session.client.counts
            column.label(text=f"{received} heads received, {session.applied} shown, {skipped} skipped")
            if settings.character is not None:
                column.label(text=f"{session.following} shape keys follow")
        kept = None if session.recorder is None else len(session.recorder)
        column.operator(
            "mien.record", text="Record" if kept is None else f"Stop ({kept} heads)", depress=kept is not None
        )


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


CLASSES = (
    MienSettings,
    MienPreferences,
    MIEN_OT_connect,
    MIEN_OT_disconnect,
    MIEN_OT_record,
    MIEN_OT_import,
    MIEN_PT_live,
)


def register() -> None:
    """Add everything to Blender."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.mien = bpy.props.PointerProperty(type=MienSettings)
    bpy.types.TOPBAR_MT_file_import.append(_menu)


def unregister() -> None:
    """Take everything out of Blender, and hang up."""
    session.disconnect()
    session.recorder = None
    bpy.types.TOPBAR_MT_file_import.remove(_menu)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    del bpy.types.Scene.mien
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
