"""Settings as text: the lines of a .env file taken in, the help for the command line given out."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path

from balancer.settings import SETTINGS, Setting, SettingsError

_ENV_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*
    (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>(?!["'\#])[^\s]+(?:[^\S\n]+[^\s\#]\S*)*)?)
    \s*(?:(?<=\s)\#.*)?""",
    re.VERBOSE,
)


def read_env_file(path: Path) -> dict[str, str]:
    """Variables from a file of KEY=VALUE lines; empty when there is no such file.

    Allowed are blank lines, comments (also behind a value, after a space), `export ` and quotes around a value, which
    are taken off; nothing is escaped or substituted. Raises SettingsError naming each line that is none of these.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"{path}: cannot be read ({type(error).__name__})",)) from error
    values: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is None:
            problems.append(f"{path}, line {number}: expected NAME=VALUE")
        else:
            values[match["name"]] = match["double"] or match["single"] or match["bare"] or ""
    if problems:
        raise SettingsError(tuple(problems))
    return values


def help_text() -> str:
    """Every setting with its default and meaning, for the command line."""
    blocks = ["Settings, from the environment or a .env file in the working directory:"]
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        blocks.append("\n".join((f"{group}:", *map(_help_entry, settings))))
    return "\n\n".join(blocks) + "\n"


def _help_entry(setting: Setting) -> str:
    also = f" Also read as {', '.join(setting.aliases)}." if setting.aliases else ""
    text = f"{setting.help} Expects {setting.kind.expected}.{also}"
    indented = textwrap.fill(text, 96, initial_indent="      ", subsequent_indent="      ")
    return f"  {setting.name} (default: {setting.default or 'empty'})\n{indented}"
