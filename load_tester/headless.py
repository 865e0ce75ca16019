"""One run from the command line: progress while it goes on, a table at its end, files, and the exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from load_tester.arguments import plan_of
from load_tester.engine.inquiries import list_models
from load_tester.engine.run import Plan, Run, prepare
from load_tester.engine.targets import TargetRules, pin
from load_tester.errors import BadInput, TargetFailed
from load_tester.exports import row, rows_csv, run_json
from load_tester.plan.cards import Caps, Card
from load_tester.plan.loads import Sweep, planned_seconds
from load_tester.report import report_html
from load_tester.tables import result_text

MET, MISSED, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130
_BAR_WIDTH = 24
_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 10.0


async def run_headless(
    chosen: argparse.Namespace, environ: Mapping[str, str], rules: TargetRules, caps: Caps, made_by: str
) -> int:
    """Carry out the command `run`; the exit code. Raises BadInput for what cannot be run."""
    plan, prompt_sets = plan_of(chosen, environ)
    run = await prepare(await _with_model(plan, rules), rules, caps, prompt_sets, made_by)
    for path in (chosen.json, chosen.csv, chosen.html):
        _check_writable(path)
    interrupted = _stop_on_signals(run)
    task = run.start()
    if chosen.quiet:
        await task
    else:
        await _show_progress(run, task, sys.stderr)
    result = run.result()
    # The table first: whatever becomes of the files, what was measured has been shown.
    if not chosen.quiet:
        sys.stdout.write(result_text(result) if str(chosen.json) != "-" else "")
    _write_files(run, result, chosen)
    if interrupted:
        return INTERRUPTED
    return exit_code(run)


def exit_code(run: Run) -> int:
    """0: every objective met; 1: one was missed; 3: nothing was answered."""
    if not any(card.ledger.ok for card in run.cards):
        return NOTHING
    outcomes = run.result()["cards"]
    return MISSED if any(outcome["slo_met"] is False for outcome in outcomes) else MET


async def _with_model(plan: Plan, rules: TargetRules) -> Plan:
    """The plan with a model in every card, asked for where none was given."""
    cards = [await _named(card, key, rules) for card, key in zip(plan.cards, plan.keys, strict=True)]
    return replace(plan, cards=tuple(cards))


async def _named(card: Card, key: str, rules: TargetRules) -> Card:
    if card.model:
        return card
    answer = await list_models(card, await pin(card.url, rules, "--url"), key)
    if not answer["ok"]:
        raise TargetFailed(f"{card.url}/models, asked because --model was left out: {answer['detail']}")
    return card.model_copy(update={"model": answer["models"][0]}) if answer["models"] else card


def _stop_on_signals(run: Run) -> list[str]:
    """The first signal ends sending, the second one cuts the drain; the list tells whether one came."""
    seen: list[str] = []

    def on_signal(name: str) -> None:
        seen.append(name)
        if run.running:
            run.stop(abort=len(seen) > 1)

    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on Windows, not outside the main thread
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, on_signal, each.name)
    return seen


async def _show_progress(run: Run, task: asyncio.Task[None], out: TextIO) -> None:
    terminal = out.isatty()
    interval = _TERMINAL_SECONDS if terminal else _LOG_SECONDS
    while True:
        line = progress_line(run)
        out.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
        out.flush()
        if task.done():
            break
        await asyncio.wait((task,), timeout=interval)
    out.write("\n" if terminal else "")
    await task


def progress_line(run: Run) -> str:
    """How the run stands, on one line."""
    live = run.live()["cards"]
    done = min(1.0, max((_share(run, place) for place in range(len(live))), default=0.0))
    filled = round(done * _BAR_WIDTH)
    parts = [f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {live[0]['elapsed_seconds']:5.1f} s"]
    for card in live:
        rows = card["series"]["rows"]
        last = dict(zip(card["series"]["columns"], rows[-1], strict=True)) if rows else {}
        ttft = card["ttft"]["p95"]
        parts.append(
            f"{card['phase']}: {card['ok']} ok, {card['failed']} failed, {card['in_flight']} in flight, "
            f"{last.get('ok_per_second', 0):.1f} req/s, {last.get('output_tokens_per_second', 0):.0f} tok/s"
            + (f", TTFT p95 {ttft:.0f} ms" if ttft is not None else "")
        )
    return " | ".join(parts)


def _share(run: Run, place: int) -> float:
    """How much of a card's plan is done, by whichever rule is nearest."""
    card, live = run.cards[place], run.cards[place].live()
    stop = card.card.stop
    if isinstance(card.card.load, Sweep):
        return float(live["segments"]) / (card.card.load.most.bit_length() + 2)
    seconds = min(stop.seconds or float("inf"), planned_seconds(card.card.load))
    shares: list[float] = [live["elapsed_seconds"] / seconds]
    if stop.requests:
        shares.append((live["ok"] + live["failed"]) / stop.requests)
    if stop.tokens:
        shares.append(live["output_tokens"] / stop.tokens)
    return max(shares)


def _write_files(run: Run, result: dict[str, object], chosen: argparse.Namespace) -> None:
    if chosen.json is not None:
        if str(chosen.json) == "-":
            sys.stdout.write(run_json(result).decode())
        else:
            _write(chosen.json, run_json(result))
    if chosen.csv is not None:
        rows = [
            row(place, record, card.ledger.begun_ns)
            for place, card in enumerate(run.cards)
            for record in card.ledger.rows
        ]
        _write(chosen.csv, rows_csv(rows).encode())
    if chosen.html is not None:
        _write(chosen.html, report_html(result).encode())


def _check_writable(path: Path | None) -> None:
    """Before the run rather than after it. Raises BadInput."""
    if path is None or str(path) == "-":
        return
    there = path if path.exists() else path.parent
    if path.is_dir() or not there.exists() or not os.access(there, os.W_OK):
        raise BadInput(str(path), "cannot be written: expected a file in a directory that is there")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BadInput(str(path), f"cannot be written: {error.strerror}") from None
