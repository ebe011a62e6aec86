"""The verb `keys`: CURVE keys of a rig."""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from streamer.arguments import Say, Told, add_verb, saying


def add_key_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser, say: Say
) -> None:
    """Add `mien keys ...`.

    Args:
        verbs: where verbs are added.
        common: parent parser with --config, --set and --json.
        say: prints a result.
    """
    text = "keys that let only your hosts watch and command a rig"
    keys = verbs.add_parser("keys", help=text, description=text, epilog="Example: mien keys make keys")
    tasks = keys.add_subparsers(dest="task", metavar="TASK", required=True)

    add = partial(add_verb, common=common)
    make = add(tasks, "make", saying(say, _make), "make the keys of a rig, or of one more host", "mien keys make keys")
    make.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: bus.keys_dir")
    make.add_argument("--client", metavar="NAME", help="a pair for one more subscribing host, into DIR/hosts/NAME")
    rotate = add(tasks, "rotate", saying(say, _rotate), "replace every key by a new one", "mien keys rotate keys")
    rotate.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: bus.keys_dir")
    listing = add(
        tasks, "list", saying(say, _list), "which keys there are; tells no secret", "mien keys list keys --json"
    )
    listing.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: bus.keys_dir")


def _folder(args: argparse.Namespace) -> Path:
    from streamer.errors import ConfigError

    folder = args.folder or args.load().bus.keys_dir
    if not folder:
        raise ConfigError("which folder? give DIR, or set bus.keys_dir")
    return Path(folder)


def _make(args: argparse.Namespace) -> Told:
    from streamer.keys import add_client, create_keys

    folder = _folder(args)
    if args.client:
        place = add_client(folder, args.client)
        line = f"{place}: copy it to that host as its bus.keys_dir, then start the publishers here again"
        return {"folder": str(folder), "client": args.client, "copy": str(place)}, line
    create_keys(folder)
    line = f"{folder}: made; set bus.keys_dir = '{folder}'. For another host: mien keys make {folder} --client NAME"
    return {"folder": str(folder)}, line


def _rotate(args: argparse.Namespace) -> Told:
    import time

    from streamer.keys import rotate_keys

    folder = _folder(args)
    retired = rotate_keys(folder, time.time())
    line = f"{folder}: all keys are new, the old ones are in {retired}; start everything again, hosts with their copy"
    return {"folder": str(folder), "retired": str(retired)}, line


def _list(args: argparse.Namespace) -> Told:
    import time

    from streamer.keys import list_keys

    found = list_keys(_folder(args), time.time())
    lines = [f"{key.role:9s} {key.name:24s} {key.age_days:8.1f} days  {key.trouble or key.public}" for key in found]
    return {"keys": [asdict(key) for key in found]}, "\n".join(lines)
