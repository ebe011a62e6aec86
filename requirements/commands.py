"""Write docs/commands.md: every verb with its options, from the parsers. Run it when a parser has changed."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mien  # noqa: E402

PAGE = ROOT / "docs/commands.md"
COMMON = {"--help", "--config", "--set", "--json"}
HEAD = """# Commands

Made by `requirements/commands.py` from the parsers; `mien VERB --help` says the same. Every verb takes `--config FILE`
(default: `./config.toml` if there is one), `--set section.key=value` (one value for this run), `--json` (one object on
standard output) and `--help`. Exit codes: 0 done, 1 failed (one line that says what to do), 2 wrong usage,
130 interrupted. `MIEN_TRACE=1` adds a traceback to an error. Completion: `eval "$(mien completion bash)"`, or `zsh`.
"""


def leaves(parser: argparse.ArgumentParser, text: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield every parser that runs something and its line of help, in the order of the command line's help."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser, text
    for action in below:
        lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from leaves(child, lines.get(name, ""))


def names(action: argparse.Action) -> str:
    """Return how an argument is written."""
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None and not isinstance(action.metavar, str):
        value = ", ".join(str(choice) for choice in action.choices)
    text = value if isinstance(value, str) else " ".join(value)
    if not action.option_strings:
        return f"`{text}`"
    return f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else f' {text}'}`"


def section(parser: argparse.ArgumentParser, text: str) -> str:
    """Return the part of one verb."""
    lines = [f"## {parser.prog}", "", f"{text[:1].upper()}{text[1:]}.", ""]
    rows = [action for action in parser._actions if not set(action.option_strings) & COMMON]
    if rows:
        lines += ["| argument | |", "| --- | --- |"]
        lines += [f"| {names(row)} | {_cell(row.help)}{' (needed)' if _needed(row) else ''} |" for row in rows]
        lines.append("")
    example = (parser.epilog or "").removeprefix("Example: ").strip()
    return "\n".join([*lines, f"    {example}", ""])


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("%%", "%").replace("<", "&lt;")


def _needed(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.required


def page() -> str:
    """Return the whole document."""
    return HEAD + "\n" + "\n".join(section(*leaf) for leaf in leaves(mien.build_parser()))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(page().splitlines())} lines")
