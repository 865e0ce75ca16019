"""`make demo`: a balancer with four fake backends of different speeds, wired, a spare one, and a light load.

Everything lives in a temporary directory and is gone afterwards. Ctrl+C ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import httpx

from load_tester.fake_backend import FakeBackend
from load_tester.fake_behaviour import Behaviour

ADMIN_TOKEN = "demo-admin-token"
MODEL = "demo-model"
# name, time to first token, time per token, token share, most requests at once, whether it is wired
BACKENDS = (
    ("gpu-1 · H100", 0.15, 0.010, 40, 16, True),
    ("gpu-2 · H100", 0.20, 0.012, 30, 16, True),
    ("gpu-3 · L40", 0.35, 0.030, 20, 8, True),
    ("laptop", 0.80, 0.060, 10, 2, True),
    ("spare · A100", 0.25, 0.015, 0, 8, False),
)
# name of the client token, how many ask at once with it
CLIENTS = (("team-search", 6), ("ci-agents", 3), ("notebooks", 1))
ENDPOINTS_X, INCOMING_X, CLIENTS_X = 840, 340, 0


async def main() -> int:
    options = _arguments()
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-balancer-demo-"))
        backends = [FakeBackend(_behaviour(place)) for place in range(len(BACKENDS))]
        for backend in backends:
            await backend.listen()
            stack.push_async_callback(backend.close)
        url = f"http://127.0.0.1:{options.port}"
        process = await _start_balancer(directory, options.port)
        stack.push_async_callback(_stop, process)
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
            if not await _ready(client, process):
                return 1
            await _wire(client, backends)
            _introduce(url)
            names = [name for name, count in CLIENTS for _ in range(count)]
            load = [asyncio.create_task(_client(client, each, random.Random(seed))) for seed, each in enumerate(names)]
            await _until_told(process, options.seconds)
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            await _report(client)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=int, default=int(os.environ.get("LB_PORT", "8090")))
    parser.add_argument("--seconds", type=float, default=0, help="end by itself after this long; 0: run until Ctrl+C")
    return parser.parse_args()


def _behaviour(place: int) -> Behaviour:
    name, ttft, tpot, *_ = BACKENDS[place]
    return Behaviour(
        name=name.encode("ascii", "ignore").decode().split()[0],
        models=(MODEL,),
        ttft_seconds=ttft,
        tpot_seconds=tpot,
        slowdown_per_inflight=0.03,
        completion_tokens=80,
        completion_sigma=0.7,
        seed=place,
    )


async def _start_balancer(directory: str, port: int) -> asyncio.subprocess.Process:
    environ = {
        **os.environ,
        "LB_DB_PATH": str(Path(directory) / "demo.db"),
        "LB_PORT": str(port),
        "LB_ADMIN_TOKEN": ADMIN_TOKEN,
        "LB_LOG_LEVEL": "WARNING",
        "LB_DRAIN_SECONDS": "1",
    }
    # A session of its own: Ctrl+C reaches this script, which then stops the balancer in order.
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "balancer", "serve", env=environ, start_new_session=True
    )


async def _ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> bool:
    for _ in range(200):
        if process.returncode is not None:
            return False
        with contextlib.suppress(httpx.TransportError):
            await client.get("/health")
            return True
        await asyncio.sleep(0.05)
    return False


async def _wire(client: httpx.AsyncClient, backends: list[FakeBackend]) -> None:
    endpoints = [
        {
            "name": name,
            "base_url": backend.base_url,
            "connected": wired,
            "token_quota_percent": share,
            "max_concurrent": most,
            "pos_x": ENDPOINTS_X,
            "pos_y": 160 * place,
        }
        for place, ((name, _, _, share, most, wired), backend) in enumerate(zip(BACKENDS, backends, strict=True))
    ]
    await _ask(client, "POST", "/endpoints", endpoints)
    await _ask(client, "PATCH", "/incoming-pos", {"x": INCOMING_X, "y": 340})
    for place, (name, _) in enumerate(CLIENTS):
        token = {"name": name, "token": _token(name), "pos_x": CLIENTS_X, "pos_y": 280 + 80 * place}
        await _ask(client, "POST", "/tokens", token)


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: object) -> None:
    headers = {"x-admin-token": ADMIN_TOKEN}
    (await client.request(method, f"/admin/api{path}", json=body, headers=headers)).raise_for_status()


def _token(name: str) -> str:
    return f"demo-{name}"


async def _client(client: httpx.AsyncClient, name: str, rng: random.Random) -> None:
    """Asks something, waits a little, asks again; half of the answers are streamed."""
    headers = {"authorization": f"Bearer {_token(name)}"}
    while True:
        await asyncio.sleep(rng.expovariate(1.0))
        prompt = "token " * rng.randint(5, 200)
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": rng.random() < 0.5}
        with contextlib.suppress(httpx.HTTPError):
            await client.post("/v1/chat/completions", json=body, headers=headers)


async def _until_told(process: asyncio.subprocess.Process, seconds: float) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, told.set)
    ended = asyncio.create_task(process.wait())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({ended, waiting}, timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    waiting.cancel()


def _introduce(url: str) -> None:
    print(
        f"""
  The balancer listens on {url}, with four fake backends wired, a spare one, and ten clients asking.

  the editor:  {url}/admin, with the token {ADMIN_TOKEN}
  state:       curl -s {url}/admin/api/state -H 'X-Admin-Token: {ADMIN_TOKEN}' | python3 -m json.tool
  a request:   curl -s {url}/v1/chat/completions -H 'Authorization: Bearer {_token("notebooks")}' \\
                 --json '{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}'
  metrics:     curl -s {url}/metrics

  Ctrl+C ends it.
""",
        flush=True,
    )


async def _report(client: httpx.AsyncClient) -> None:
    with contextlib.suppress(httpx.HTTPError):
        state = (await client.get("/admin/api/state", headers={"x-admin-token": ADMIN_TOKEN})).json()
        served = {e["name"]: e["prompt_tokens_total"] + e["completion_tokens_total"] for e in state["endpoints"]}
        total = sum(served.values()) or 1
        print("\n  share of tokens, and quota:")
        for endpoint in state["endpoints"]:
            share = 100 * served[endpoint["name"]] / total
            print(f"  {endpoint['name']:<14}{share:6.1f} %   {endpoint['token_quota_percent']:g} %")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
