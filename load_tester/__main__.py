"""The command line: `python -m load_tester` and `llm-load-tester` are the same thing."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from balancer import __version__
from balancer.auth import AdminTokenUnavailable, ensure_admin_token
from balancer.logs import configure
from balancer.setting_table import SettingsError
from balancer.setting_texts import help_text, read_env_file
from load_tester import arguments
from load_tester.app import caps_of
from load_tester.engine.targets import TargetRules
from load_tester.errors import LoadTesterError, TargetFailed
from load_tester.headless import NOTHING, USAGE, run_headless
from load_tester.serve import new_event_loop, prepare_process, serve
from load_tester.settings import SETTINGS, Settings, load_settings

logger = logging.getLogger("load_tester")


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. Of `serve`: 0 done, 1 it could not be done, 2 wrong usage or settings."""
    chosen = _parser().parse_args(words)
    environ = {**read_env_file(Path(".env")), **os.environ}
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"llm-load-tester: {problem}\n")
        return USAGE
    configure(settings.log_level, "text")
    try:
        code: int = chosen.act(settings, chosen, environ)
        return code
    except (LoadTesterError, AdminTokenUnavailable) as error:
        sys.stderr.write(f"llm-load-tester: {error}\n")
        if isinstance(error, TargetFailed):
            return NOTHING
        return USAGE if chosen.act is _run else 1


def _serve(settings: Settings, _: argparse.Namespace, __: Mapping[str, str]) -> int:
    for line in settings.unknown:
        logger.warning("%s", line)
    serve(settings, _token(settings), __version__)
    return 0


def _show_token(settings: Settings, _: argparse.Namespace, __: Mapping[str, str]) -> int:
    token = _token(settings)
    sys.stdout.write(f"{token}\n" if token else "none is needed: it serves this machine only\n")
    return 0


def _run(settings: Settings, chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    caps = caps_of(settings, prepare_process(settings.max_connections))
    rules = TargetRules(dict(settings.host_rewrites), settings.allow_hosts)
    work = run_headless(chosen, environ, rules, caps, f"llm-load-tester {__version__}")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def _token(settings: Settings) -> str:
    """The token in force: demanded wherever others can reach the port, and generated if none was given."""
    if settings.token or settings.is_loopback:
        return settings.token
    path = Path(settings.data_dir) / "token"
    token, created = ensure_admin_token(path, "LT_TOKEN")
    if created:
        logger.info("a token was generated: it is in %s, `llm-load-tester token` shows it", path)
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-load-tester",
        description="Load tests for OpenAI-compatible APIs: a page and an API, or one run on the command line.",
        epilog=help_text(SETTINGS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(act=_serve)
    choice = parser.add_subparsers(title="commands", metavar="COMMAND")
    choice.add_parser("serve", help="serve the page and the API until stopped (default)").set_defaults(act=_serve)
    choice.add_parser("token", help="print the token that the page asks for").set_defaults(act=_show_token)
    arguments.add_run(choice).set_defaults(act=_run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
