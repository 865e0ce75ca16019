"""A table of settings as the fields of a dataclass: declared once, read from a mapping, with every problem told.

Knows no setting itself; the balancer and the load tester each have a table of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from balancer.core.errors import BalancerError
from balancer.setting_kinds import BadEntry, Kind


class SettingsError(BalancerError):
    """Settings that cannot be used: `problems` has one line for each, free of secrets."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table. `default` is text as an operator would write it; `aliases` are older names still read."""

    name: str
    group: str
    kind: Kind
    default: str
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)


def setting(
    name: str,
    group: str,
    kind: Kind,
    default: str,
    help_text: str,
    *,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of a table; Any, because the attribute's annotation is its type."""
    line = Setting(name, group, kind, default, help_text, aliases, secret)
    return field(default=kind.parse(default), repr=not secret, metadata={"setting": line})


def table_of(settings: type[Any]) -> Mapping[str, Setting]:
    """The lines of a table by attribute."""
    return {item.name: item.metadata["setting"] for item in fields(settings) if "setting" in item.metadata}


def read_table(table: Mapping[str, Setting], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by attribute, and by setting the variable that gave it; empty ones count as unset.

    Raises SettingsError with every problem found, not only the first.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for attribute, line in table.items():
        given = {name: text for name in line.names if (text := environ.get(name, "").strip())}
        parsed = _parse(line, given, problems)
        if any(value != next(iter(parsed.values())) for value in parsed.values()):
            problems.append(_conflict(line, given))
        if parsed:
            variables[line.name], values[attribute] = next(iter(parsed.items()))
    if problems:
        raise SettingsError(tuple(problems))
    return values, variables


def _parse(line: Setting, given: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        try:
            parsed[name] = line.kind.parse(text)
        except BadEntry as bad:
            problems.append(f"{name}, entry {_shown(line, bad.entry)}: expected {line.kind.expected}")
        except ValueError:
            problems.append(f"{name}={_shown(line, text)}: expected {line.kind.expected}")
    return parsed


def _conflict(line: Setting, given: Mapping[str, str]) -> str:
    pairs = " and ".join(f"{name}={_shown(line, text)}" for name, text in given.items())
    return f"{pairs}: names of one setting with different values; keep {line.name}"


def _shown(line: Setting, text: str) -> str:
    if line.secret:
        return "***"
    return repr(text if len(text) <= 80 else text[:80] + "...")


def unknown(prefix: str, table: Sequence[Setting], environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable with that prefix that is no setting."""
    known = [name for line in table for name in line.names]
    for name in sorted(environ):
        if name.startswith(prefix) and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            yield f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "")
