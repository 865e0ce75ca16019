"""The load tester's server over real sockets: who may use it, runs from start to export, what is kept."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from balancer.web.bundle import Asset, Bundle
from load_tester.app import caps_of, create_app
from load_tester.errors import HistoryError
from load_tester.history import FILE_NAME
from load_tester.settings import load_settings
from tests.fakes import FakeServer
from tests.running import DEADLINE_SECONDS, RunningApp, http_client

SECRET = "sk-very-secret-key-1234"


class Running:
    """A running load tester and a browser that is logged in."""

    def __init__(self, directory: Path, token: str = "", **environ: str) -> None:
        settings = load_settings({"LT_DATA_DIR": str(directory), **environ})
        self.starlette = create_app(settings, token, "0", caps=caps_of(settings), wall_clock=time.time)
        self.app = RunningApp(self.starlette)
        self.client = http_client("")
        self._token = token

    async def __aenter__(self) -> Running:
        self._life = self.starlette.router.lifespan_context(self.starlette)
        await self._life.__aenter__()
        await self.app.__aenter__()
        self.client.base_url = httpx.URL(self.app.url)
        if self._token:
            session = await self.client.post("/api/session", json={"token": self._token})
        else:
            session = await self.client.get("/api/session")
        self.client.headers["x-csrf-token"] = session.json()["csrf_token"]
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._life.__aexit__(*error)
        await self.client.aclose()
        await self.app.__aexit__(*error)

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def send(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.client.request(method, path, json=body if body is not None else {})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def start(self, *cards: dict[str, Any], **fields: Any) -> str:
        body = {"cards": [{"card": card} for card in cards], **fields}
        return str((await self.send("POST", "/api/runs", body, 201))["id"])

    async def over(self, run_id: str) -> Any:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            result = await self.get(f"/api/runs/{run_id}")
            listed = await self.get("/api/runs")
            if result["state"] != "running" and not listed["active"]:
                return result
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.fixture
async def tester(tmp_path: Path) -> AsyncIterator[Running]:
    async with Running(tmp_path) as running:
        yield running


def quick(backend: FakeServer, **fields: Any) -> dict[str, Any]:
    return {"url": backend.base_url, "stop": {"requests": 5}, "max_tokens": 5, **fields}


async def events(client: httpx.AsyncClient, run_id: str) -> AsyncIterator[tuple[str, Any]]:
    async with client.stream("GET", f"/api/runs/{run_id}/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


class TestAccess:
    async def test_without_a_token_only_this_machine_and_only_by_its_own_name(self, tester: Running) -> None:
        assert (await tester.client.get("/health")).json()["status"] == "ok"
        for host in ("evil.example", "evil.example:8088", "localhost.evil.example", ""):
            answer = await tester.client.get("/api/session", headers={"host": host})
            assert answer.status_code in (400, 403), host
        for host in ("localhost", "localhost:8088", "127.0.0.1:1", "[::1]:8088"):
            assert (await tester.client.get("/api/session", headers={"host": host})).status_code == 200, host

    async def test_changes_need_the_csrf_token(self, tester: Running) -> None:
        for headers in ({"x-csrf-token": ""}, {"x-csrf-token": "guess"}):
            answer = await tester.client.post("/api/stop", headers=headers)
            assert answer.status_code == 403
            assert "X-CSRF-Token" in answer.json()["detail"]
        async with http_client(tester.app.url) as stranger:
            assert (await stranger.get("/api/runs")).status_code == 401
            assert (await stranger.post("/api/stop", headers=tester.client.headers)).status_code == 401

    async def test_with_a_token_everybody_must_know_it(self, tmp_path: Path) -> None:
        async with Running(tmp_path, "t0ken") as tester, http_client(tester.app.url) as stranger:
            assert await tester.get("/api/runs")
            assert (await stranger.get("/api/session")).status_code == 401
            assert (await stranger.post("/api/session", json={"token": "wrong"})).status_code == 401
            assert (await stranger.get("/api/runs")).status_code == 401
            bearer = {"authorization": "Bearer t0ken"}
            assert (await stranger.get("/api/runs", headers=bearer)).status_code == 200
            # Programs send the token itself with each request: no cookie, so nothing to forge.
            assert (await stranger.post("/api/stop", headers=bearer)).status_code == 200

    async def test_the_session_is_a_careful_cookie_and_survives_a_restart(self, tmp_path: Path) -> None:
        async with Running(tmp_path, "t0ken") as tester:
            answer = await tester.client.post("/api/session", json={"token": "t0ken"})
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("lt_session=")
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "t0ken" not in cookie
            kept = dict(tester.client.cookies)
        async with Running(tmp_path, "t0ken") as again, http_client(again.app.url) as browser:
            browser.cookies.update(kept)
            assert (await browser.get("/api/session")).json()["via"] == "session"
            browser.cookies.set("lt_session", kept["lt_session"][:-1] + "0")
        async with Running(tmp_path, "another") as other, http_client(other.app.url) as browser:
            browser.cookies.update(kept)
            assert (await browser.get("/api/session")).status_code == 401

    async def test_headers_keep_browsers_safe(self, tester: Running) -> None:
        for path in ("/", "/health", "/api/about", "/api/nothing"):
            headers = (await tester.client.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


class TestRuns:
    async def test_the_page_is_told_what_the_settings_say(self, tmp_path: Path) -> None:
        async with Running(tmp_path, LT_EDITOR_URL="https://lb.example/admin", LT_KEEP_RUNS="7") as tester:
            about = await tester.get("/api/about")
        assert (about["editor_url"], about["keep_runs"]) == ("https://lb.example/admin", 7)

    async def test_from_start_to_history(self, tester: Running) -> None:
        async with FakeServer() as backend:
            run_id = await tester.start(quick(backend, slo={"ttft_p95": "5s"}), name="First", notes="n")
            seen = [event async for event in events(tester.client, run_id)]
            result = await tester.over(run_id)
        assert [seen[0][0], seen[-1][0]] == ["run", "end"]
        assert seen[-1][1]["cards"][0]["totals"]["ok"] == 5
        assert result["cards"][0]["slo_met"] is True
        listed = await tester.get("/api/runs")
        (headline,) = listed["past"]
        assert (headline["id"], headline["name"], headline["cards"][0]["ok"]) == (run_id, "First", 5)
        rows = await tester.get(f"/api/runs/{run_id}/requests")
        assert len(rows["rows"]) == 5 == rows["total"]
        # Attaching to what is over gives all of it, too.
        assert [name async for name, _ in events(tester.client, run_id)] == ["run", "end"]

    async def test_reattaching_gets_everything_and_then_what_is_new(self, tester: Running) -> None:
        async with FakeServer() as backend:
            run_id = await tester.start(quick(backend, stop={"seconds": 2.6}))
            first = events(tester.client, run_id)
            async for name, told in first:
                if name == "tick" and told["cards"][0]["series"]["rows"]:
                    break
            await first.aclose()
            total: list[Any] = []
            async for name, told in events(tester.client, run_id):
                if name == "run":
                    assert told["state"] == "running" and told["cards"][0]["summary"]["ok"] > 0
                elif name == "tick":
                    assert told["cards"][0]["series"]["from"] == len(total)
                    total += told["cards"][0]["series"]["rows"]
            assert [row[0] for row in total] == [float(n + 1) for n in range(len(total))] and total
            await tester.over(run_id)

    async def test_change_stop_and_kill(self, tester: Running) -> None:
        async with FakeServer() as backend:
            backend.behaviour = backend.behaviour.changed({"ttft_seconds": 0.02})
            run_id = await tester.start(quick(backend, stop={}))
            changes = {"changes": {"load": {"kind": "closed", "concurrency": 4}}}
            await tester.send("PATCH", f"/api/runs/{run_id}/cards/0", changes)
            await backend.wait_for(lambda stats: stats.max_inflight == 4)
            bad = {"changes": {"load": {"kind": "closed", "concurrency": 100_000}}}
            problem = await tester.send("PATCH", f"/api/runs/{run_id}/cards/0", bad, 422)
            assert "LT_MAX_CONNECTIONS" in problem["detail"]
            await tester.send("PATCH", f"/api/runs/{run_id}/cards/7", changes, 404)
            await tester.send("DELETE", f"/api/runs/{run_id}", status=409)
            await tester.send("POST", f"/api/runs/{run_id}/stop")
            assert (await tester.over(run_id))["state"] == "stopped"
            await tester.send("POST", f"/api/runs/{run_id}/stop", status=409)

            backend.behaviour = backend.behaviour.changed({"ttft_seconds": 60})
            both = [await tester.start(quick(backend, stop={})) for _ in range(2)]
            await backend.wait_for(lambda stats: stats.inflight == 2)
            assert await tester.send("POST", "/api/stop") == {"stopped": 2}
            for each in both:
                assert (await tester.over(each))["cards"][0]["reason"] == "aborted"

    async def test_exports_and_import(self, tester: Running, tmp_path: Path) -> None:
        async with FakeServer() as backend:
            run_id = await tester.start(quick(backend))
            await tester.over(run_id)
        exported = await tester.client.get(f"/api/runs/{run_id}/export.json")
        assert f'filename="loadtest-{run_id}.json"' in exported.headers["content-disposition"]
        assert (await tester.client.get(f"/api/runs/{run_id}/export.csv")).text.count("\n") == 6
        page = await tester.client.get(f"/api/runs/{run_id}/report.html")
        assert page.text.startswith("<!doctype html>")
        twice = await tester.client.post("/api/runs/import", content=exported.content)
        assert twice.status_code == 422 and "already" in twice.json()["detail"]
        async with Running(tmp_path / "elsewhere") as other:
            taken = await other.client.post("/api/runs/import", content=exported.content)
            assert taken.status_code == 201
            assert (await other.get(f"/api/runs/{run_id}")) == exported.json()
            refused = await other.client.post(
                "/api/runs/import", content=b'{"format":"llm-load-tester run","version":9}'
            )
            assert refused.status_code == 422 and "version 9" in refused.json()["detail"]
            broken = {**exported.json(), "id": "broken", "cards": [{"card": {}}]}
            refused = await other.client.post("/api/runs/import", content=json.dumps(broken))
            assert refused.status_code == 422 and "damaged" in refused.json()["detail"]

    async def test_notes_comparison_and_deletion(self, tester: Running) -> None:
        async with FakeServer() as backend:
            ids = []
            for tokens in (5, 20):
                ids.append(await tester.start(quick(backend, max_tokens=tokens)))
                await tester.over(ids[-1])
        await tester.send("PATCH", f"/api/runs/{ids[0]}", {"notes": "before the change", "name": "A"})
        assert (await tester.get(f"/api/runs/{ids[0]}"))["notes"] == "before the change"
        compared = await tester.get(f"/api/compare?runs={ids[0]},{ids[1]}")
        assert compared["runs"][0]["name"] == "A"
        lines = {(line["metric"], line["statistic"]): line for line in compared["cards"][0]["lines"]}
        assert lines["ok", ""]["delta"] == 0 and ("ttft", "p95") in lines
        await tester.get("/api/compare?runs=one", 422)
        await tester.send("DELETE", f"/api/runs/{ids[0]}")
        await tester.get(f"/api/runs/{ids[0]}", 404)

    async def test_sweeps_are_compared_step_by_step(self, tester: Running) -> None:
        async with FakeServer() as backend:
            backend.behaviour = backend.behaviour.changed({"ttft_seconds": 0.01})
            sweep = {"kind": "sweep", "most": 2, "step_seconds": 0.5}
            ids = []
            for _ in range(2):
                ids.append(await tester.start(quick(backend, load=sweep, stop={}, slo={"ttft_p95": "5s"})))
                await tester.over(ids[-1])
            plain = await tester.start(quick(backend))
            await tester.over(plain)
        (card,) = (await tester.get(f"/api/compare?runs={ids[0]},{ids[1]}"))["cards"]
        lines = {(line["metric"], line["statistic"]): line for line in card["lines"]}
        assert {"knee_level", "knee_throughput", "slo_level", "max_concurrent"} <= {metric for metric, _ in lines}
        assert lines["knee_level", ""]["unit"] == "users"
        assert [step["label"] for step in card["steps"]] == ["1 user", "2 users"]
        steps = {(line["metric"], line["statistic"]) for line in card["steps"][0]["lines"]}
        assert {("requests_per_second", ""), ("ttft", "p95"), ("e2e", "mean")} <= steps
        # A sweep and something else have no figure in common.
        assert (await tester.get(f"/api/compare?runs={ids[0]},{plain}"))["cards"] == []

    async def test_paired_cards(self, tester: Running) -> None:
        async with FakeServer() as backend:
            run_id = await tester.start(quick(backend), quick(backend), paired=True)
            result = await tester.over(run_id)
        assert result["comparison"]["pairs"] == 5
        assert await tester.send("POST", "/api/runs", {"cards": [{"card": quick(backend)}], "paired": True}, 422)

    @pytest.mark.parametrize(
        ("card", "field", "words"),
        [
            ({"url": "http://169.254.169.254/v1"}, "cards.0.url", "no load is sent there"),
            ({"url": "http://nowhere.invalid/v1"}, "cards.0.url", "not known"),
            ({"load": {"kind": "closed", "concurrency": 10_000}}, "cards.0.load", "500"),
            ({"load": {"kind": "constant"}}, "cards.0.load.rate", "required"),
            ({"prompt": {"kind": "set", "set": "gone"}}, "cards.0.prompt.set", "upload"),
            ({"api_key": "x"}, "cards.0.api_key", "unknown field"),
            ({"slo": {"ttft": "fast"}}, "cards.0.slo.ttft", "is no limit"),
        ],
    )
    async def test_bad_input_says_where_and_what(
        self, tmp_path: Path, card: dict[str, Any], field: str, words: str
    ) -> None:
        async with Running(tmp_path, LT_MAX_CONNECTIONS="500") as tester:
            problem = await tester.send("POST", "/api/runs", {"cards": [{"card": card}]}, 422)
        assert problem["field"] == field
        assert words in problem["detail"]

    async def test_what_is_no_json_or_too_long(self, tester: Running) -> None:
        headers = {"content-type": "application/json"}
        assert (await tester.client.post("/api/runs", content=b"{", headers=headers)).status_code == 422
        assert (await tester.client.post("/api/runs", content=b"{}")).status_code == 422
        long = b'"' + b"a" * 5_000_000 + b'"'
        answer = await tester.client.post("/api/runs", content=long, headers=headers)
        assert answer.status_code == 422 and "at most" in answer.json()["detail"]

    async def test_stopping_the_server_keeps_what_was_measured(self, tmp_path: Path) -> None:
        async with FakeServer() as backend:
            async with Running(tmp_path) as tester:
                run_id = await tester.start(quick(backend, stop={}))
                await backend.wait_for(lambda stats: stats.total_requests > 5)
            async with Running(tmp_path) as again:
                result = await again.get(f"/api/runs/{run_id}")
        assert (result["state"], result["cards"][0]["reason"]) == ("stopped", "aborted")
        assert result["cards"][0]["totals"]["ok"] > 0


class TestBeforeARun:
    async def test_models_and_one_request(self, tester: Running) -> None:
        async with FakeServer() as backend:
            backend.behaviour = backend.behaviour.changed({"api_key": SECRET, "models": ["a", "b"]})
            body = {"card": {"url": backend.base_url, "model": "a"}, "api_key": SECRET}
            assert (await tester.send("POST", "/api/models", body))["models"] == ["a", "b"]
            tried = await tester.send("POST", "/api/try", body)
            assert tried["ok"] and tried["output_tokens"] > 0 and tried["ttft_ms"] > 0
            wrong = await tester.send("POST", "/api/try", {**body, "api_key": "wrong"})
            assert (wrong["ok"], wrong["status"]) == (False, 401)
            assert "Incorrect API key" in wrong["detail"] and "check the API key" in wrong["advice"]
            assert "401" in (await tester.send("POST", "/api/models", {**body, "api_key": ""}))["detail"]
            unknown = await tester.send("POST", "/api/try", {**body, "card": {"url": backend.base_url, "model": "c"}})
            assert "does not exist" in unknown["detail"] and "model's name" in unknown["advice"]
            backend.behaviour = backend.behaviour.changed({"fault": "html", "fault_scope": "all"})
            assert "web page" in (await tester.send("POST", "/api/try", body))["detail"]
            assert "web page" in (await tester.send("POST", "/api/models", body))["detail"]
        nobody = await tester.send("POST", "/api/try", body)
        assert nobody["detail"] == "connection refused" and "something listens" in nobody["advice"]

    async def test_a_key_is_held_used_and_never_shown(self, tester: Running, tmp_path: Path) -> None:
        key = await tester.send("POST", "/api/keys", {"key": SECRET, "label": "mine"}, 201)
        assert key["preview"] == "sk-v...1234"
        async with FakeServer() as backend:
            backend.behaviour = backend.behaviour.changed({"api_key": SECRET})
            body = {
                "cards": [{"card": quick(backend), "key_id": key["id"]}, {"card": quick(backend), "api_key": SECRET}]
            }
            run_id = (await tester.send("POST", "/api/runs", body, 201))["id"]
            result = await tester.over(run_id)
        assert [card["totals"]["ok"] for card in result["cards"]] == [5, 5]
        shown = json.dumps([result, await tester.get("/api/keys"), await tester.get("/api/runs")])
        for path in ("export.json", "export.csv", "report.html", "requests"):
            shown += (await tester.client.get(f"/api/runs/{run_id}/{path}")).text
        assert SECRET not in shown
        for file in tmp_path.iterdir():
            assert SECRET.encode() not in file.read_bytes()
        await tester.send("DELETE", f"/api/keys/{key['id']}")
        body["cards"][0]["card"] = {}
        assert "enter it again" in (await tester.send("POST", "/api/runs", body, 404))["detail"]

    async def test_profiles(self, tester: Running) -> None:
        saved = await tester.send("PUT", "/api/profiles/Nightly", {"cards": [{"model": "m"}], "notes": "n"})
        assert saved["cards"][0]["url"] == "http://localhost:8090/v1"
        (profile,) = (await tester.get("/api/profiles"))["profiles"]
        assert (profile["name"], profile["cards"][0]["model"]) == ("Nightly", "m")
        await tester.send("PUT", "/api/profiles/X", {"cards": [{"api_key": "s"}]}, 422)
        await tester.send("PUT", "/api/profiles/latency", {"cards": [{}]}, 422)
        await tester.send("DELETE", "/api/profiles/Nightly")
        await tester.send("DELETE", "/api/profiles/Nightly", status=404)

    async def test_sets_of_prompts(self, tester: Running) -> None:
        broken = await tester.client.post("/api/prompt-sets?name=mine.jsonl", content=b'{"prompt": "a"}\n{oops}\n')
        assert broken.status_code == 422
        assert broken.json()["field"] == "mine.jsonl" and "line 2" in broken.json()["detail"]
        made = await tester.client.post("/api/prompt-sets?name=mine.jsonl", content=b'{"prompt": "a"}\n{"prompt": "b"}')
        assert made.json()["lines"] == 2
        async with FakeServer() as backend:
            run_id = await tester.start(quick(backend, prompt={"kind": "set", "set": made.json()["id"]}))
            assert (await tester.over(run_id))["cards"][0]["totals"]["ok"] == 5
        assert [each["name"] for each in (await tester.get("/api/prompt-sets"))["prompt_sets"]] == ["mine.jsonl"]
        await tester.send("DELETE", f"/api/prompt-sets/{made.json()['id']}")

    async def test_what_the_page_needs_to_draw_itself(self, tester: Running) -> None:
        about = await tester.get("/api/about")
        assert about["card"]["load"]["kind"] == "closed" and about["caps"]["connections"] == 2000
        assert {each["key"] for each in (await tester.get("/api/definitions"))["definitions"]} >= {"ttft", "knee"}
        assert len((await tester.get("/api/presets"))["presets"]) >= 5
        plan = await tester.send(
            "POST", "/api/plan", {"card": {"load": {"kind": "constant", "rate": 4}, "stop": {"requests": 3}}}
        )
        assert plan["first_arrivals_seconds"] == [0, 0.25, 0.5]
        # However many there will be, only the first ones are worked out.
        many = {"card": {"load": {"kind": "constant", "rate": 4}, "stop": {"requests": 1_000_000_000}}}
        assert len((await tester.send("POST", "/api/plan", many))["first_arrivals_seconds"]) == 200


class TestTheFile:
    async def test_only_the_newest_runs_are_kept(self, tmp_path: Path) -> None:
        async with FakeServer() as backend:
            async with Running(tmp_path, LT_KEEP_RUNS="2") as tester:
                ids = []
                for _ in range(3):
                    ids.append(await tester.start(quick(backend)))
                    await tester.over(ids[-1])
                listed = await tester.get("/api/runs")
                assert {each["id"] for each in listed["past"]} == set(ids[1:]) and listed["total"] == 2
                # What is imported was begun long ago, but has come last.
                exported = (await tester.client.get(f"/api/runs/{ids[2]}/export.json")).json()
                old = {**exported, "id": "old", "started_at": "2020-01-01T00:00:00.000+00:00"}
                taken = await tester.client.post("/api/runs/import", content=json.dumps(old))
                assert taken.status_code == 201
                assert {each["id"] for each in (await tester.get("/api/runs"))["past"]} == {ids[2], "old"}
            async with Running(tmp_path, LT_KEEP_RUNS="1") as fewer:
                assert [each["id"] for each in (await fewer.get("/api/runs"))["past"]] == ["old"]
            async with Running(tmp_path, LT_KEEP_RUNS="0") as everything:
                for _ in range(2):
                    await everything.over(await everything.start(quick(backend)))
                assert (await everything.get("/api/runs"))["total"] == 3

    async def test_it_is_ours_alone(self, tmp_path: Path) -> None:
        async with Running(tmp_path):
            assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600

    async def test_another_programs_file_is_left_alone(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / FILE_NAME) as other:
            other.execute("CREATE TABLE endpoints (id INTEGER)")
        other.close()
        with pytest.raises(HistoryError, match="another program"):
            await Running(tmp_path).__aenter__()

    async def test_a_newer_file_is_left_alone(self, tmp_path: Path) -> None:
        async with Running(tmp_path):
            pass
        newer = sqlite3.connect(tmp_path / FILE_NAME)
        newer.execute("PRAGMA user_version = 99")
        newer.close()
        with pytest.raises(HistoryError, match="another version"):
            await Running(tmp_path).__aenter__()


class TestPage:
    async def _answers(self, tmp_path: Path, page: Bundle | None, *paths: str) -> list[httpx.Response]:
        settings = load_settings({"LT_DATA_DIR": str(tmp_path)})
        app = create_app(settings, "t0ken", "0", caps=caps_of(settings), wall_clock=time.time, page=page)
        async with RunningApp(app) as running, http_client(running.url) as stranger:
            return [await stranger.get(path) for path in paths]

    async def test_a_built_page_is_served_without_a_session(self, tmp_path: Path) -> None:
        asset = Asset(b"1", "text/javascript; charset=utf-8", None)
        page = Bundle("assets/a.js", (), (), {"assets/a.js": asset})
        shell, script, outside, api = await self._answers(
            tmp_path, page, "/", "/assets/a.js", "/../history.py", "/api/runs"
        )
        assert shell.status_code == 200 and "<title>Load tester</title>" in shell.text
        assert '<script type="module" src="/assets/a.js"></script>' in shell.text
        policy = shell.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert script.text == "1" and script.headers["content-type"].startswith("text/javascript")
        assert outside.status_code == 404
        assert api.status_code == 401

    async def test_without_a_built_page_it_says_how_to_build_it(self, tmp_path: Path) -> None:
        (shell,) = await self._answers(tmp_path, None, "/")
        assert shell.status_code == 503
        assert "make webui" in shell.text and "/api" in shell.text
