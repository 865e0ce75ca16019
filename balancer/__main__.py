"""The command line: `python -m balancer` and `llm-balancer` are the same thing."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from balancer import __version__, checks, commands, maintenance
from balancer.core.errors import BalancerError
from balancer.launch import launch
from balancer.logs import configure
from balancer.server import serve
from balancer.setting_texts import help_text, read_env_file
from balancer.settings import ATTRIBUTES, Settings, SettingsError, load_settings
from balancer.workers.place import Place

logger = logging.getLogger("balancer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 it could not be done, 2 wrong usage or settings."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        settings = load_settings(os.environ, read_env_file(Path(".env")))
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"llm-balancer: {problem}\n")
        return 2
    configure(settings.log_level, settings.log_format)
    try:
        code: int = chosen.run(settings, chosen)
        return code
    except BalancerError as error:
        sys.stderr.write(f"llm-balancer: {error}\n")
        return 1


def _serve(settings: Settings, chosen: argparse.Namespace) -> int:
    settings = replace(settings, workers=getattr(chosen, "workers", settings.workers))
    for line in settings.unknown:
        logger.warning("%s", line)
    token, generated = commands.admin_token(settings)
    if generated:
        _introduce(token, commands.admin_token_path(settings))
    if settings.workers > 1:
        launch(settings)
    serve(settings, token)
    return 0


def _serve_as_worker(settings: Settings, chosen: argparse.Namespace) -> int:
    """One of several, as the supervisor starts them. It is told when to stop: signals may be sent to all at once."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    place = Place.read(chosen.place)
    configure(settings.log_level, settings.log_format, worker=place.number)
    serve(replace(settings, workers=place.count), commands.admin_token(settings)[0], place)
    return 0


def _introduce(token: str, path: Path) -> None:
    """A new admin token is shown to a person, once; a log only learns where it lies."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\n  admin token: {token}\n  kept in {path}; `llm-balancer admin-token` shows it again\n\n")
    else:
        logger.info("an admin token was generated: it is in %s, `llm-balancer admin-token` shows it", path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-balancer",
        description="One address for several OpenAI-compatible backends.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=_serve)
    choice = parser.add_subparsers(title="commands", metavar="COMMAND")
    server = choice.add_parser("serve", help="serve until stopped (default)")
    server.set_defaults(run=_serve)
    server.add_argument(
        "--workers", type=_workers, default=argparse.SUPPRESS, metavar="N", help="processes that serve: LB_WORKERS"
    )
    worker = choice.add_parser("worker")
    worker.add_argument("place")
    worker.set_defaults(run=_serve_as_worker)
    check = choice.add_parser("check", help="validate settings and database, say what is dangerous, then exit")
    check.set_defaults(run=checks.check)
    show = choice.add_parser("admin-token", help="print the admin token")
    show.set_defaults(run=commands.show_admin_token)
    backup = choice.add_parser("backup", help="copy the database to a file, also while a balancer runs on it")
    backup.add_argument("file", type=Path, help="where to; replaced if it is there")
    backup.set_defaults(run=maintenance.backup)
    restore = choice.add_parser("restore", help="make the database what a backup is; the balancer must be stopped")
    restore.add_argument("file", type=Path, help="what `llm-balancer backup` wrote")
    restore.set_defaults(run=maintenance.restore_backup)
    rotate = choice.add_parser("rotate-keys", help="encrypt the provider keys anew with the first LB_SECRET_KEY")
    rotate.add_argument(
        "--drop-unreadable",
        action="store_true",
        help="first take keys away for good that no secret opens; the balancer must be stopped",
    )
    rotate.set_defaults(run=maintenance.rotate_keys)
    _add_config(choice.add_parser("config", help="export or import the endpoints and the routing mode"))
    return parser


def _workers(text: str) -> int:
    line = ATTRIBUTES["workers"].kind
    try:
        return int(line.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {line.expected}") from None


def _add_config(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    export = choice.add_parser("export", help="write the configuration as JSON")
    export.add_argument("file", nargs="?", type=Path, help="where to; standard output if left out")
    export.add_argument("--with-keys", action="store_true", help="include the provider keys, in clear")
    export.set_defaults(run=commands.config_export)
    load = choice.add_parser("import", help="read a configuration from JSON; endpoints are matched by name")
    load.add_argument("file", type=Path, help="what to read; - for standard input")
    load.set_defaults(run=commands.config_import)


if __name__ == "__main__":
    sys.exit(main())
