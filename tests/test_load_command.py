"""The load tester's command line as a process: progress, files, exit codes, serving."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from balancer.setting_table import SettingsError
from load_tester.settings import SETTINGS, Settings, load_settings
from tests.load_parts import BackendProcess, backend_process

COMMAND = [sys.executable, "-m", "load_tester"]


@pytest.fixture(scope="module")
def backend() -> Iterator[BackendProcess]:
    with backend_process("--ttft", "0.01", "--api-key", "sk-1") as running:
        yield running


def run(
    *words: str, cwd: Path, key: str = "sk-1", timeout: float = 40, **environ: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LT_", "LB_"))}
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        env={**kept, "LT_API_KEY": key, "PYTHONPATH": str(Path(__file__).parent.parent), **environ},
        check=False,
    )


class TestRun:
    def test_results_files_and_a_good_end(self, backend: BackendProcess, tmp_path: Path) -> None:
        words = ["--url", backend.url, "--rate", "40", "--duration", "1", "--max-tokens", "5", "--slo", "ttft_p95=5s"]
        files = ["--json", "out.json", "--csv", "out.csv", "--html", "out.html", "--name", "Nightly"]
        done = run("run", *words, *files, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.search(r"\[#+\.*\]", done.stderr) and "40 ok" in done.stderr
        assert re.search(r"SLO +pass +ttft_p95", done.stdout)
        result = json.loads((tmp_path / "out.json").read_text())
        assert (result["name"], result["cards"][0]["totals"]["ok"]) == ("Nightly", 40)
        assert result["cards"][0]["card"]["model"] == "fake-model"  # asked for, as it was left out
        assert (tmp_path / "out.csv").read_text().count("\n") == 41
        assert "Nightly" in (tmp_path / "out.html").read_text()
        assert "sk-1" not in "".join(file.read_text() for file in tmp_path.iterdir())

    def test_a_missed_slo_is_exit_code_1(self, backend: BackendProcess, tmp_path: Path) -> None:
        done = run("run", "--url", backend.url, "--requests", "5", "--slo", "e2e_p50=1ms", cwd=tmp_path)
        assert done.returncode == 1
        assert "FAIL" in done.stdout

    def test_json_on_standard_output_is_json_alone(self, backend: BackendProcess, tmp_path: Path) -> None:
        done = run("run", "--url", backend.url, "--requests", "2", "--json", "-", cwd=tmp_path)
        assert json.loads(done.stdout)["cards"][0]["totals"]["ok"] == 2

    def test_two_targets_and_their_difference(self, backend: BackendProcess, tmp_path: Path) -> None:
        words = ["--url", backend.url, "--compare-url", backend.url, "--rate", "20", "--requests", "10"]
        done = run("run", *words, cwd=tmp_path)
        assert done.returncode == 0
        assert "10 pairs" in done.stdout

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--requests", "1"], "--url: is missing"),
            (["--url", "{url}"], "--duration: is missing"),
            (["--url", "{url}", "--requests", "1", "--slo", "ttft"], "--slo"),
            (["--url", "{url}", "--requests", "1", "--slo", "speed_p95=1s"], "slo.speed_p95"),
            (["--url", "{url}", "--requests", "1", "--prompts", "none.jsonl"], "none.jsonl: cannot be read"),
            (["--url", "{url}", "--stages", "10@5"], "--stages"),
            (["--url", "{url}", "--concurrency", "5000", "--requests", "1"], "LT_MAX_CONNECTIONS"),
            (["--url", "http://169.254.169.254/v1", "--model", "m", "--requests", "1"], "no load is sent there"),
            (["--url", "{url}", "--requests", "1", "--lengths", "a lot"], "D(in,out)"),
            (["--url", "{url}", "--sweep", "rate", "--ramp", "5"], "--ramp: goes with --rate or --concurrency"),
            (["--url", "{url}", "--requests", "1", "--json", "no/such/directory.json"], "cannot be written"),
            (["--url", "{url}", "--requests", "1", "--html", "."], "cannot be written"),
        ],
    )
    def test_wrong_usage_is_exit_code_2(
        self, backend: BackendProcess, tmp_path: Path, words: list[str], said: str
    ) -> None:
        done = run("run", *(word.format(url=backend.url) for word in words), cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr and "Traceback" not in done.stderr

    def test_nothing_answered_is_exit_code_3(self, backend: BackendProcess, tmp_path: Path) -> None:
        refused = run("run", "--url", "http://127.0.0.1:9/v1", "--requests", "2", cwd=tmp_path)
        assert (refused.returncode, "connection refused" in refused.stderr) == (3, True)
        wrong_key = ["--url", backend.url, "--model", "fake-model", "--requests", "2"]
        unauthorised = run("run", *wrong_key, cwd=tmp_path, key="wrong")
        assert (unauthorised.returncode, "Incorrect API key" in unauthorised.stdout) == (3, True)

    def test_a_broken_line_of_prompts_is_named(self, backend: BackendProcess, tmp_path: Path) -> None:
        (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
        done = run("run", "--url", backend.url, "--requests", "2", "--prompts", "p.jsonl", cwd=tmp_path)
        assert (done.returncode, "p.jsonl: line 2" in done.stderr) == (2, True)

    def test_interrupted_it_shows_what_it_has(self, backend: BackendProcess, tmp_path: Path) -> None:
        words = ["run", "--url", backend.url, "--duration", "60", "--json", "out.json", "--card", "card.json"]
        (tmp_path / "card.json").write_text(json.dumps({"load": {"kind": "closed", "concurrency": 2}}))
        environ = {**os.environ, "LT_API_KEY": "sk-1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        process = subprocess.Popen(
            [*COMMAND, *words], cwd=tmp_path, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stderr is not None and process.stdout is not None
        try:
            # The first line of progress: it is under way.
            assert process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
            process.stdout.close()
        assert json.loads((tmp_path / "out.json").read_text())["state"] == "stopped"


class TestServe:
    def test_it_serves_stops_and_keeps_what_was_running(self, backend: BackendProcess, tmp_path: Path) -> None:
        environ = {
            **os.environ,
            "LT_PORT": "0",
            "LT_DATA_DIR": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        process = subprocess.Popen(COMMAND, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            url = line.split("listening on ")[1].strip()
            with httpx.Client(trust_env=False) as client:
                assert client.get(f"{url}/health").json()["status"] == "ok"
                csrf = client.get(f"{url}/api/session").json()["csrf_token"]
                body = {"cards": [{"card": {"url": backend.url}, "api_key": "sk-1"}]}
                started = client.post(f"{url}/api/runs", json=body, headers={"x-csrf-token": csrf})
            process.terminate()
            assert process.wait(20) == 0
            with closing(sqlite3.connect(tmp_path / "load-tester.db")) as history:
                assert history.execute("SELECT id, state FROM runs").fetchall() == [(started.json()["id"], "stopped")]
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    def test_beyond_this_machine_it_demands_a_token(self, tmp_path: Path) -> None:
        environ = {"LT_HOST": "0.0.0.0", "LT_DATA_DIR": str(tmp_path)}
        token = run("token", cwd=tmp_path, **environ).stdout.strip()
        assert len(token) >= 40
        assert run("token", cwd=tmp_path, **environ).stdout.strip() == token
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        assert "none is needed" in run("token", cwd=tmp_path, LT_DATA_DIR=str(tmp_path)).stdout

    def test_not_in_the_balancers_directory(self, tmp_path: Path) -> None:
        (tmp_path / "load_balancer.db").touch()
        done = run("serve", cwd=tmp_path, LT_DATA_DIR=str(tmp_path), LT_PORT="0")
        assert done.returncode == 1
        assert "a directory of its own" in done.stderr


class TestSettings:
    def test_defaults(self) -> None:
        assert load_settings({}) == Settings()
        assert load_settings({setting.name: setting.default for setting in SETTINGS}) == Settings()
        assert (Settings().host, Settings().port, Settings().data_dir) == ("127.0.0.1", 8088, "./data-load-tester")

    def test_rewrites_and_allowed_hosts(self) -> None:
        settings = load_settings(
            {
                "LT_HOST_REWRITES": "localhost:8090=load-balancer:8090, [::1]:1=10.0.0.1:2",
                "LT_ALLOW_HOSTS": "API.example.org, 10.0.0.0/8, 192.168.1.7",
            }
        )
        assert settings.host_rewrites == ((("localhost", 8090), ("load-balancer", 8090)), (("::1", 1), ("10.0.0.1", 2)))
        assert [str(each) for each in settings.allow_hosts] == ["api.example.org", "10.0.0.0/8", "192.168.1.7/32"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("LT_HOST_REWRITES", "localhost=balancer"),
            ("LT_HOST_REWRITES", "a:1=b:99999"),
            ("LT_ALLOW_HOSTS", "10.0.0.999"),
            ("LT_PORT", "high"),
            ("LT_MAX_CONNECTIONS", "0"),
        ],
    )
    def test_what_cannot_be_used(self, name: str, text: str) -> None:
        with pytest.raises(SettingsError, match=name):
            load_settings({name: text})

    def test_the_token_is_not_shown(self) -> None:
        settings = load_settings({"LT_TOKEN": "hidden-token", "LT_HOST": "0.0.0.0", "LT_TYPO": "1", "LT_API_KEY": "sk"})
        assert "hidden-token" not in repr(settings)
        assert not settings.is_loopback and load_settings({"LT_HOST": "::1"}).is_loopback
        assert len(settings.unknown) == 1 and "LT_TYPO" in settings.unknown[0]
