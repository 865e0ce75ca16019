"""The programs that are compared with the balancer: how each is set up and started. Run it to set them up.

Those from PyPI get environments of their own under `benchmarks/.peers`, since they bring many packages along; nginx is
taken from the system. Whoever cannot be set up is absent from the table, and the table says so.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import backend
from benchmarks.processes import Program, StartFailed, free_port

HOME = Path(__file__).parent / ".peers"
# Versions that were measured; others may want to be started in another way.
_PACKAGES = {"routers": ("vllm-router==0.1.17", "sglang-router==0.3.2"), "litellm": ("litellm[proxy]==1.106.*",)}
_INSTALL_SECONDS = 900.0
_START_SECONDS = 90.0
_NGINX_CONNECTIONS = 1024

_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 512k; keepalive_requests 1000000;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy; fastcgi_temp_path {folder}/nginx-f;
  uwsgi_temp_path {folder}/nginx-u; scgi_temp_path {folder}/nginx-s;
  upstream backends {{ {servers} keepalive {keepalive}; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backends; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """What a program needs to know to be started: its port, the backends', its cores, a folder for its files.

    `token`: what clients send; those that check tokens are told to accept this one.
    """

    port: int
    backends: Sequence[int]
    cores: Collection[int]
    folder: Path
    token: str = field(default_factory=lambda: f"sk-{secrets.token_hex(16)}", repr=False)

    @property
    def urls(self) -> list[str]:
        """The backends' addresses."""
        return [f"http://127.0.0.1:{port}" for port in self.backends]

    def program(self, *command: str, environ: dict[str, str] | None = None) -> Program:
        """The command as a program in this place."""
        return Program(command, self.port, self.cores, self.folder, environ, start_seconds=_START_SECONDS)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to compare with. `slow`: not worth more than a few dozen connections. Raises StartFailed if absent."""

    name: str
    start: Callable[[Place], Program]
    slow: bool = False
    one_backend: bool = False


def _nginx(place: Place) -> Program:
    found = shutil.which("nginx")
    if found is None:
        raise StartFailed("nginx is not installed")
    file = place.folder / f"nginx-{place.port}.conf"
    servers = " ".join(f"server 127.0.0.1:{port};" for port in place.backends)
    keepalive = max(_NGINX_CONNECTIONS, len(place.backends))
    file.write_text(_NGINX.format(folder=place.folder, servers=servers, port=place.port, keepalive=keepalive))
    return place.program(found, "-c", str(file), "-p", str(place.folder))


def _vllm_router(place: Place) -> Program:
    options = ("--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "error")
    address = ("--host", "127.0.0.1", "--port", str(place.port))
    return place.program(installed("routers", "vllm-router"), *address, *options, "--worker-urls", *place.urls)


def _sglang_router(place: Place) -> Program:
    options = ("--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "error")
    address = ("--host", "127.0.0.1", "--port", str(place.port))
    command = (installed("routers", "sglang-router"), "launch")
    return place.program(*command, *address, *options, "--worker-urls", *place.urls)


def _litellm(place: Place) -> Program:
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"}}
        for name in backend.COMPLETION_TOKENS
        for url in place.urls
    ]
    file = place.folder / f"litellm-{place.port}.yaml"
    file.write_text(json.dumps({"model_list": models}))  # JSON is YAML
    command = (installed("litellm", "litellm"), "--config", str(file), "--host", "127.0.0.1")
    environ = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": place.token}
    return place.program(*command, "--port", str(place.port), environ=environ)


def _naive(place: Place) -> Program:
    return place.program(sys.executable, "-m", "benchmarks.naive", str(place.port), f"{place.urls[0]}/v1")


PEERS = (
    Peer("nginx", _nginx),
    Peer("vllm-router", _vllm_router),
    Peer("sglang-router", _sglang_router),
    Peer("LiteLLM", _litellm, slow=True),
    Peer("Starlette + httpx", _naive, slow=True, one_backend=True),
)


def installed(environment: str, command: str) -> str:
    """The path of a command that `set_up` has installed. Raises StartFailed."""
    path = HOME / environment / "bin" / command
    if not path.exists():
        raise StartFailed(f"{command} is not installed; python -m benchmarks.peers sets it up")
    return str(path)


def set_up(environment: str, packages: Sequence[str]) -> None:
    """Install `packages` into an environment of their own, unless they are there. Raises StartFailed."""
    folder = HOME / environment
    done = folder / "installed"
    wanted = "\n".join(packages)
    if done.exists() and done.read_text() == wanted:
        return
    print(f"setting up {', '.join(packages)}", file=sys.stderr, flush=True)
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, capture_output=True, text=True)
        done.write_text(wanted)
    except (subprocess.SubprocessError, OSError) as error:
        words = getattr(error, "stderr", "") or str(error)
        raise StartFailed(f"{', '.join(packages)}: {str(words).strip().splitlines()[-1]}") from None


def main() -> int:
    """Set up what is missing; says what could not be. Always 0: the others can be measured."""
    for environment, packages in _PACKAGES.items():
        try:
            set_up(environment, packages)
        except StartFailed as error:
            print(f"not set up, and so absent: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
