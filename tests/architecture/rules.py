"""Rules about the source that no linter of ours knows, as pure functions from a parsed file to complaints."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
CORE = ("types", "geometry", "wire", "assembler", "channels", "errors")
CORE_MAY_IMPORT = {"numpy", "streamer"}
CLI_MAY_IMPORT = {"streamer.arguments", "streamer.errors", "streamer.config"}

Rule = Callable[[PurePosixPath, str, ast.Module], Iterator[str]]


def _imports(nodes: Iterator[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def _at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported; what only a type checker reads does not."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))


def sizes(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """A file holds one idea; a function can be seen at once."""
    count = len(text.splitlines())
    if count > MAX_FILE_LINES:
        yield f"{path}: {count} lines, at most {MAX_FILE_LINES}: give each idea its own file"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def pure_core(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """The core of the streamer knows numpy and the standard library (the wire also MessagePack), and no clock."""
    if path.parts[0] != "streamer" or path.stem not in CORE or len(path.parts) != 2:
        return
    allowed = CORE_MAY_IMPORT | ({"msgpack"} if path.stem == "wire" else set())
    for line, name in _imports(ast.walk(tree)):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            yield f"{path}:{line}: imports {name}; the core knows numpy and the standard library only"
        if top in {"time", "datetime", "socket", "threading", "asyncio", "multiprocessing"}:
            yield f"{path}:{line}: imports {name}; time and input come into the core as arguments"


def light_cli(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """The command line starts in no time: rooms import what is heavy inside their handlers."""
    if path.name != "cli.py" or len(path.parts) != 2:
        return
    for line, name in _imports(_at_import_time(tree)):
        if name not in CLI_MAY_IMPORT and name.partition(".")[0] not in sys.stdlib_module_names:
            yield f"{path}:{line}: imports {name} at module level; import it inside the handler"


def no_pickle(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """Nothing that is read can run code."""
    for line, name in _imports(ast.walk(tree)):
        if name.partition(".")[0] in {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}:
            yield f"{path}:{line}: imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "torch.load" and keywords.get("weights_only") != "True":
            yield f"{path}:{node.lineno}: torch.load without weights_only=True unpickles"
        if keywords.get("allow_pickle", "False") != "False":
            yield f"{path}:{node.lineno}: {called} with allow_pickle"
        if called.endswith(("recv_pyobj", "send_pyobj")):
            yield f"{path}:{node.lineno}: {called} pickles"


def quiet(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """Only the command line writes to the terminal."""
    if path.name == "cli.py" or str(path) == "mien.py":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{path}:{node.lineno}: print outside the command line"


def no_swallowing(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    """No handler takes everything, unless it raises again or hands the error on; to log it is not to hand it on."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)) and not _hands_on(node):
            yield f"{path}:{node.lineno}: `except` takes everything and keeps it"


def _hands_on(handler: ast.ExceptHandler) -> bool:
    pending: list[ast.AST] = list(handler.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log", "print", "warnings.")):
            continue
        if isinstance(node, ast.Name) and node.id == handler.name:
            return True
        pending.extend(ast.iter_child_nodes(node))
    return False


RULES: tuple[Rule, ...] = (sizes, pure_core, light_cli, no_pickle, quiet, no_swallowing)
