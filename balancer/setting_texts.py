"""Settings as text: the lines of a .env file taken in; the help for the command line and an overview given out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from balancer.admin.answers import SettingView
from balancer.settings import ATTRIBUTES, SETTINGS, Setting, Settings, SettingsError

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


def help_text(table: Sequence[Setting] = SETTINGS) -> str:
    """Every setting of a table with its default and meaning, for the command line."""
    blocks = ["Settings, from the environment or a .env file in the working directory:"]
    for group, settings in groupby(table, key=lambda setting: setting.group):
        blocks.append("\n".join((f"{group}:", *map(_help_entry, settings))))
    return "\n\n".join(blocks) + "\n"


def _help_entry(setting: Setting) -> str:
    also = f" Also read as {', '.join(setting.aliases)}." if setting.aliases else ""
    text = f"{setting.help} Expects {setting.kind.expected}.{also}"
    indented = textwrap.fill(text, 96, initial_indent="      ", subsequent_indent="      ")
    return f"  {setting.name} (default: {setting.default or 'empty'})\n{indented}"


def overview(settings: Settings) -> tuple[SettingView, ...]:
    """Every setting as it is in force and where it came from, in the order of the table. Holds no secret."""
    return tuple(_view(settings, setting, getattr(settings, attribute)) for attribute, setting in ATTRIBUTES.items())


def _view(settings: Settings, setting: Setting, value: Any) -> SettingView:
    variable = settings.given.get(setting.name)
    source = "default" if variable is None else "file" if variable in settings.from_file else "environment"
    shown = as_text(value)
    if setting.name == "LB_ADMIN_TOKEN" and not value:
        shown, source = "generated", "generated"
    return SettingView(
        name=setting.name,
        group=setting.group,
        value="***" if setting.secret and shown else shown,
        default=setting.default,
        source=source,
        variable=variable,
        help=setting.help,
        expected=setting.kind.expected,
        unit=setting.kind.unit or None,
        choices=list(setting.kind.choices),
        secret=setting.secret,
    )


def as_text(value: Any) -> str:
    """The value of a setting as an operator would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple):
        return ",".join(map(_entry, value))
    return str(value)


def _entry(entry: Any) -> str:
    """One entry of a list: a name, a network, a port, a host with or without a port, or such a host and its limit."""
    match entry:
        case (tuple() as address, int(limit)):
            return f"{_entry(address)}={limit}"
        case (str(host), port):
            literal = f"[{host}]" if ":" in host and port is not None else host
            return literal if port is None else f"{literal}:{port}"
    return str(entry)
