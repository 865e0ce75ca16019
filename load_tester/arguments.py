"""The command line of the load tester, and the plan that the words of `run` make."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from load_tester.engine.run import Plan
from load_tester.errors import BadInput
from load_tester.plan.cards import Card, read_card
from load_tester.plan.prompt_sets import parse_prompt_set
from load_tester.plan.prompts import Line
from load_tester.settings import KEY_VARIABLE

_STAGE = re.compile(r"(\d+(?:\.\d+)?)s@(?:(\d+(?:\.\d+)?)-)?(\d+(?:\.\d+)?)")
_PROMPT_SET = "file"


def add_run(choice: Any) -> argparse.ArgumentParser:
    """The command `run`."""
    run: argparse.ArgumentParser = choice.add_parser(
        "run",
        help="run one load test here and now; the exit code tells whether the SLOs were met",
        description="Sends load, shows what came of it. Exit codes: 0 done and every SLO met, 1 an SLO missed, "
        "2 wrong usage, 3 nothing was answered, 130 interrupted.",
        epilog=f"The API key is read from {KEY_VARIABLE} or from --key-file, never from the command line, which every "
        "user of this machine can read.",
        allow_abbrev=False,
    )
    target = run.add_argument_group("target")
    target.add_argument("--url", help="API base URL, such as http://localhost:8090/v1")
    target.add_argument("--compare-url", help="send the same to this one too, and state the difference")
    target.add_argument("--model", help="left out: the first of the target's list")
    target.add_argument("--key-file", type=Path, help="file with the API key")
    target.add_argument("--insecure", action="store_true", help="do not verify TLS certificates")
    target.add_argument("--timeout", type=float, metavar="SECONDS", help="longest silence of the target (120)")
    target.add_argument("--card", type=Path, help="a card as JSON; the other arguments are put into it")
    load = run.add_argument_group("load (one of these; default: --concurrency 1)").add_mutually_exclusive_group()
    load.add_argument("--concurrency", type=int, metavar="N", help="closed loop of N users")
    load.add_argument("--rate", type=float, metavar="R", help="open loop of R requests per second")
    load.add_argument("--batch", type=int, metavar="B", help="B requests at once every --delay-ms")
    load.add_argument("--stages", metavar="LIST", help="such as 30s@0-20,60s@20: requests per second over time")
    load.add_argument("--sweep", choices=("concurrency", "rate"), help="search for the knee")
    more = run.add_argument_group("more about the load")
    more.add_argument("--poisson", action="store_true", help="random arrivals instead of even ones")
    more.add_argument("--delay-ms", type=float, default=0, help="time between batches")
    more.add_argument("--max-in-flight", type=int, default=0, metavar="N", help="limit of an open loop; 0: none")
    more.add_argument("--ramp", type=float, metavar="SECONDS", help="rise from nothing to --rate or --concurrency")
    more.add_argument("--most", type=int, default=256, help="most users of a sweep")
    more.add_argument("--steps", type=int, default=8, help="rates of a sweep of rates")
    more.add_argument("--step-seconds", type=float, default=15, help="length of each step of a sweep")
    more.add_argument("--duration", type=float, metavar="SECONDS", help="stop sending after that time")
    more.add_argument("--requests", type=int, metavar="N", help="stop after N requests")
    more.add_argument("--max-errors", type=int, metavar="N", help="stop after N failures")
    more.add_argument("--token-budget", type=int, metavar="N", help="stop after N output tokens")
    more.add_argument("--warmup", type=float, metavar="SECONDS", help="what is sent so early is not measured")
    more.add_argument("--drain", type=float, metavar="SECONDS", help="wait for the last answers (30)")
    more.add_argument("--seed", type=int, help="of schedule and prompts (1)")
    prompt = run.add_argument_group("prompts").add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="the same text every time")
    prompt.add_argument("--lengths", help="synthetic: D(100,1000), N(480,240)/(300,150) or U(10,50)/(10,50), in tokens")
    prompt.add_argument("--prompts", type=Path, metavar="FILE", help="JSON Lines with prompt or messages")
    body = run.add_argument_group("requests")
    body.add_argument("--system", help="system prompt")
    body.add_argument("--max-tokens", type=int, help="0: not sent (60)")
    body.add_argument("--temperature", type=float, help="left out: not sent")
    body.add_argument("--no-stream", action="store_true", help="whole answers instead of streams")
    body.add_argument("--ignore-eos", action="store_true", help="ask vLLM to generate to the limit")
    body.add_argument("--same-prefix", action="store_true", help="no unique prefix: prompts may come from a cache")
    out = run.add_argument_group("results")
    out.add_argument("--slo", action="append", default=[], metavar="NAME=LIMIT", help="such as ttft_p95=500ms; repeat")
    out.add_argument("--name", default="", help="what the run is called")
    out.add_argument("--json", type=Path, metavar="FILE", help="write everything; - for standard output")
    out.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each request")
    out.add_argument("--html", type=Path, metavar="FILE", help="write a report")
    out.add_argument("--quiet", action="store_true", help="no progress, no table")
    return run


def plan_of(chosen: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Plan, dict[str, tuple[Line, ...]]]:
    """The plan of `run` and the prompts it needs. Raises BadInput."""
    fields = _read_card_file(chosen.card) if chosen.card else {}
    fields |= _card_fields(chosen)
    if "url" not in fields:
        raise BadInput("--url", "is missing: such as http://localhost:8090/v1")
    prompt_sets: dict[str, tuple[Line, ...]] = {}
    if chosen.prompts is not None:
        prompt_sets[_PROMPT_SET] = parse_prompt_set(_read(chosen.prompts), str(chosen.prompts))
    cards: list[Card] = [read_card(fields, "")]
    if chosen.compare_url:
        cards.append(read_card({**fields, "url": chosen.compare_url, "name": "compared"}, ""))
    _ends(cards[0])
    key = _key(chosen, environ)
    plan = Plan(tuple(cards), tuple(key for _ in cards), paired=len(cards) == 2, name=chosen.name, order="together")
    return plan, prompt_sets


def _ends(card: Card) -> None:
    stop = card.stop
    if not (stop.seconds or stop.requests or stop.tokens) and card.load.kind not in ("sweep", "stages"):
        raise BadInput("--duration", "is missing: give --duration, --requests or --token-budget, so that it ends")


def _card_fields(chosen: argparse.Namespace) -> dict[str, Any]:
    given = {
        "url": chosen.url,
        "model": chosen.model,
        "system_prompt": chosen.system,
        "warmup_seconds": chosen.warmup,
        "drain_seconds": chosen.drain,
        "timeout_seconds": chosen.timeout,
        "max_tokens": chosen.max_tokens,
        "temperature": chosen.temperature,
        "seed": chosen.seed,
        "load": _load(chosen),
        "prompt": _prompt(chosen),
        "stop": _stop(chosen),
        "slo": dict(_slo(each) for each in chosen.slo) or None,
        "stream": False if chosen.no_stream else None,
        "verify_tls": False if chosen.insecure else None,
        "ignore_eos": True if chosen.ignore_eos else None,
        "unique_prefix": False if chosen.same_prefix else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _load(chosen: argparse.Namespace) -> dict[str, Any] | None:
    limit = {"max_in_flight": chosen.max_in_flight}
    arrivals = "poisson" if chosen.poisson else "constant"
    if chosen.ramp is not None:
        if chosen.batch is not None or chosen.stages is not None or chosen.sweep is not None:
            raise BadInput("--ramp", "goes with --rate or --concurrency alone")
        end, of = (chosen.rate, "rate") if chosen.rate is not None else (chosen.concurrency or 1, "concurrency")
        ramp = {"kind": "ramp", "of": of, "start": 0, "end": end, "seconds": chosen.ramp}
        return {**ramp, "arrivals": arrivals, **limit}
    if chosen.rate is not None:
        return {"kind": arrivals, "rate": chosen.rate, **limit}
    if chosen.concurrency is not None:
        return {"kind": "closed", "concurrency": chosen.concurrency}
    if chosen.batch is not None:
        return {"kind": "batch", "batch": chosen.batch, "delay_ms": chosen.delay_ms, **limit}
    if chosen.stages is not None:
        return {"kind": "stages", "of": "rate", "stages": _stages(chosen.stages), "arrivals": arrivals, **limit}
    if chosen.sweep is not None:
        sweep = {"kind": "sweep", "of": chosen.sweep, "most": chosen.most, "steps": chosen.steps}
        return {**sweep, "step_seconds": chosen.step_seconds, "arrivals": arrivals}
    return None


def _stages(text: str) -> list[dict[str, float]]:
    stages = []
    for part in text.split(","):
        found = _STAGE.fullmatch(part.strip())
        if found is None:
            raise BadInput("--stages", f"{part!r}: expected 60s@20, or 30s@0-20 to rise within it")
        stage = {"seconds": float(found[1]), "end": float(found[3])}
        stages.append(stage | ({"start": float(found[2])} if found[2] else {}))
    return stages


def _prompt(chosen: argparse.Namespace) -> dict[str, Any] | None:
    if chosen.prompt is not None:
        return {"kind": "fixed", "text": chosen.prompt}
    if chosen.lengths is not None:
        return {"kind": "synthetic", "lengths": chosen.lengths}
    return {"kind": "set", "set": _PROMPT_SET} if chosen.prompts is not None else None


def _stop(chosen: argparse.Namespace) -> dict[str, Any] | None:
    given = {
        "seconds": chosen.duration,
        "requests": chosen.requests,
        "errors": chosen.max_errors,
        "tokens": chosen.token_budget,
    }
    return {name: value for name, value in given.items() if value is not None} or None


def _slo(text: str) -> tuple[str, str]:
    name, equals, limit = text.partition("=")
    if not equals:
        raise BadInput("--slo", f"{text!r}: expected NAME=LIMIT, such as ttft_p95=500ms")
    return name.strip().rstrip("<>"), limit


def _read_card_file(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise BadInput("--card", f"{path}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise BadInput("--card", f"{path}: expected a JSON object")
    return value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror}") from None


def _key(chosen: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if chosen.key_file is not None:
        return _read(chosen.key_file).decode("utf-8", "replace").strip()
    return environ.get(KEY_VARIABLE, "").strip()
