"""Every error Mien raises on purpose.

    MienError
    ├── ConfigError         config.toml, --set: unknown key, wrong type, value out of range
    ├── CalibrationError    camera parameters that cannot be used
    ├── WireError           a message that is not ours, truncated, or inconsistent
    ├── TransportError      sockets and shared memory: port in use, missing keys
    ├── DriverError         a camera driver: absent, unsupported trigger, stream ended
    ├── TakeError           a take on disk: damaged, unfinished, of another schema
    ├── ModelError          weights or manifests that do not fit
    ├── MeshError           a mesh file (template, raw scan) that cannot be used
    ├── ProcessError        a supervised process that cannot start or keeps failing
    ├── EngineError         an inference engine that cannot run here
    ├── NoHeadError         a frame set that shows no head, or shows it to one camera alone
    ├── ScreenError         the operator's screen could not be drawn, or no more
    ├── GraphicsError       OpenGL, EGL or a window that cannot be opened
    └── MissingExtra        an optional package that has to be installed

A message names the value that was refused and tells the user what to do next; the command line prints it as
one line and exits with 1.
"""


class MienError(Exception):
    """Base of all errors that are the user's or the world's, not a defect in Mien."""


class ConfigError(MienError):
    """A configuration value cannot be used; the message carries file, dotted key, value and what is allowed."""


class CalibrationError(MienError):
    """Camera parameters are missing, singular, or without units."""


class WireError(MienError):
    """A message failed validation; nothing of it was used.

    Args:
        text: what is wrong; kept to one line, whatever names the message brings.
    """

    def __init__(self, text: str = "") -> None:
        """Keep to one line."""
        super().__init__(" ".join(text.split()))


class TransportError(MienError):
    """A socket or shared-memory segment could not be opened or is not safe to open."""


class DriverError(MienError):
    """A camera driver cannot do what was asked."""


class TakeError(MienError):
    """A take on disk cannot be read or written."""


class ModelError(MienError):
    """Weights, manifest and topology do not belong together."""


class MeshError(MienError):
    """A mesh file cannot be read, or is not the mesh that is needed."""


class EngineError(MienError):
    """An inference engine asked for by name cannot run on this machine."""


class NoHeadError(MienError):
    """A frame set shows no head, or shows it to one camera alone: no mesh is made of it."""


class ProcessError(MienError):
    """A supervised process could not be started, was not ready in time, or keeps failing."""


class ScreenError(MienError):
    """The operator's screen could not be drawn, or no more; what it shows need not end with it."""


class GraphicsError(MienError):
    """OpenGL cannot draw on this machine; the message names the system packages to install."""


class FitError(MienError):
    """A radiance field could not be fitted, or its files do not belong together."""


class MissingExtra(MienError):
    """An optional dependency is not installed.

    Args:
        package: the import name that is missing.
        extra: the extra of the distribution `mien` that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        """Name the package and the command that installs it."""
        super().__init__(f"the package '{package}' is not installed; run: pip install 'mien[{extra}]'")
        self.package = package
        self.extra = extra
