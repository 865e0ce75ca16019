"""Writes `.env.example` and `docs/configuration.md` from the tables in `balancer/settings.py` and
`load_tester/settings.py`.

python scripts/configuration_docs.py
"""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

from balancer.core.strategies import ALIASES, STRATEGIES
from balancer.settings import SETTINGS as BALANCER_SETTINGS
from balancer.settings import Setting
from load_tester.settings import SETTINGS as LOAD_TESTER_SETTINGS

SETTINGS = (*BALANCER_SETTINGS, *LOAD_TESTER_SETTINGS)

ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
# Configuration

<!-- Written by scripts/configuration_docs.py from the tables in balancer/settings.py and
load_tester/settings.py: change it there. -->

Settings come from environment variables, or from a file named `.env` in the working directory with one `NAME=VALUE`
on each line ([.env.example](../.env.example) is a start). Where both name a variable, the environment wins. Nothing
has to be set: every default works.

* An empty value counts as unset.
* A value that cannot be used stops the start. Every problem gets a line of its own, with the value given and what was
  expected; secrets are never shown. `llm-balancer check` looks without starting.
* A variable whose name begins with `LB_` or `LT_` but is not listed here is reported in the log and has no effect.

Endpoints, their keys and limits are not settings: they live in the database and are edited at `/admin`.
"""

MODES = """\
## Routing modes

Names are accepted in upper or lower case.

| Mode | Also accepted |
|---|---|
"""

OLDER_NAMES = """\
## Older names

These variables of earlier systems are still read. When a setting is given under two names with different values, the
start stops.

| Older name | Setting |
|---|---|
"""


def env_example() -> str:
    """The text of `.env.example`: every setting, commented out, with its default."""
    blocks = [
        "# Copy to .env and remove the # before what you want to set. Values shown are the defaults.\n"
        "# Written by scripts/configuration_docs.py from the tables in balancer/settings.py and "
        "load_tester/settings.py:\n# change it there."
    ]
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        blocks.append(f"# ---- {group} ----")
        blocks += [
            f"{textwrap.fill(setting.help, 110, initial_indent='# ', subsequent_indent='# ')}\n"
            f"#{setting.name}={setting.default}"
            for setting in settings
        ]
    return "\n\n".join(blocks) + "\n"


def configuration_page() -> str:
    """The text of `docs/configuration.md`: a table for each group, routing modes and older names."""
    sections = [INTRODUCTION]
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        head = f"## {group}\n\n| Setting | Default | Accepts | Meaning |\n|---|---|---|---|\n"
        sections.append(head + "".join(map(_row, settings)))
    sections.append(MODES + "".join(_mode_row(name) for name in STRATEGIES))
    older = ((alias, setting.name) for setting in SETTINGS for alias in setting.aliases)
    sections.append(OLDER_NAMES + "".join(f"| `{alias}` | `{name}` |\n" for alias, name in older))
    return "\n".join(sections)


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "empty"
    expected = setting.kind.expected
    if setting.name == "ROUTING_STRATEGY":
        expected = "a [routing mode](#routing-modes)"
    return f"| `{setting.name}` | {default} | {expected} | {setting.help} |\n"


def _mode_row(name: str) -> str:
    others = ", ".join(f"`{alias}`" for alias, canonical in ALIASES.items() if canonical == name)
    return f"| `{name}` | {others} |\n"


def main() -> None:
    """Write both files."""
    (ROOT / ".env.example").write_text(env_example(), "utf-8")
    (ROOT / "docs" / "configuration.md").write_text(configuration_page(), "utf-8")


if __name__ == "__main__":
    main()
