"""Discovery: who becomes an endpoint, as what, and who never does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from balancer.core.endpoints import Endpoint
from balancer.core.pool import EndpointPool
from balancer.discovery import Address, Discovery, addresses
from balancer.settings import SettingsError, load_settings
from balancer.store import CreateEndpoint, EndpointRecord, NameTaken, StoreError
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.raw_server import RawServer, stays_silent
from tests.running import eventually
from tests.running_balancer import RunningBalancer
from tests.scripted_backends import ScriptedBackends, models


class Expedition:
    """A discovery of scripted backends; what it finds goes straight into the pool."""

    def __init__(self, *named: tuple[str, int], **options: Any) -> None:
        self.backends = ScriptedBackends()
        self.pool = EndpointPool()
        self.refusal: Exception | None = None
        self.created: list[dict[str, Any]] = []
        self.discovery = Discovery(
            self.pool, self.backends.control, [Address(*each) for each in named], self._create, **options
        )

    async def _create(self, found: CreateEndpoint) -> None:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.created.append(dict(found.fields))
        fields: dict[str, Any] = dict(found.fields)
        self.add(EndpointRecord(len(self.created) + 100, **fields))

    def add(self, endpoint: Endpoint) -> None:
        self.pool.apply([*(state.endpoint for state in self.pool.states.values()), endpoint])

    def serve(self, *places: str) -> None:
        """Let these places list models."""
        for place in places:
            self.backends.answers[place] = models("m")

    async def scan(self) -> list[str]:
        """One scan; the names of all that was ever created."""
        async with asyncio.timeout(10):
            await self.discovery.scan()
        return [fields["name"] for fields in self.created]


@pytest.fixture
async def closing() -> AsyncIterator[list[Expedition]]:
    """Expeditions to be ended: append."""
    begun: list[Expedition] = []
    yield begun
    for each in begun:
        await each.discovery.stop()
        await each.backends.control.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_a_host_with_a_port_is_one_address_and_one_without_is_one_for_each_port() -> None:
    hosts = [("gpu-1", None), ("gpu-2", 8000), ("gpu-1", 1234), ("fd00::1", None)]
    found = addresses(hosts, [1234, 11434])
    assert [each.name for each in found] == [
        "gpu-1:1234",
        "gpu-1:11434",
        "gpu-2:8000",
        "[fd00::1]:1234",
        "[fd00::1]:11434",
    ]
    assert found[-1].base_url == "http://[fd00::1]:11434/v1"


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("SCAN_HOSTS", "GPU-1, 10.0.0.5:8000", "scan_hosts", (("gpu-1", None), ("10.0.0.5", 8000))),
        ("SCAN_HOSTS", "a;b  c,,a", "scan_hosts", (("a", None), ("b", None), ("c", None))),
        ("SCAN_HOSTS", "fd00::1 [FD00::2]:80 [::1]", "scan_hosts", (("fd00::1", None), ("fd00::2", 80), ("::1", None))),
        ("SCAN_HOSTS", "", "scan_hosts", ()),
        ("SCAN_PORTS", "", "scan_ports", (1234,)),
        ("SCAN_PORTS", "1234,11434 ; 8000", "scan_ports", (1234, 11434, 8000)),
        ("SCAN_INTERVAL", "5", "scan_interval_seconds", 5.0),
        ("DEFAULT_MAXCONN", "4", "default_maxconn", 4),
        ("MAXCONN_MAP", "a:1=2; B:3=0,a:1=2", "maxconn_map", ((("a", 1), 2), (("b", 3), 0))),
        ("MAXCONN_MAP", "[::1]:80=7", "maxconn_map", ((("::1", 80), 7),)),
        ("LB_DISCOVERY_CONNECT", "yes", "discovery_connect", True),
    ],
)
def test_settings(name: str, text: str, attribute: str, value: object) -> None:
    assert getattr(load_settings({name: text}), attribute) == value


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        *[
            ("SCAN_HOSTS", "node-7", bad)
            for bad in (
                "http://gpu-2",
                "gpu-2:0",
                "gpu-2:65536",
                "gpu-2:",
                "gpu-2:x",
                ":1234",
                "10.0.0.0/24",
                "999.1.1.1",
                "*",
                "gpu-2/v1",
                "user@gpu-2",
                "[::1",
                "[gpu-2]:80",
                "::g",
                "a..b",
                "-a",
                "h" * 64,
            )
        ],
        *[("SCAN_PORTS", "1234", bad) for bad in ("0", "65536", "http", "1-5", "80.0", "-1")],
        *[
            ("MAXCONN_MAP", "gpu-1:1234=4", bad)
            for bad in ("gpu-2=4", "gpu-2:1234", "gpu-2:1234=", "gpu-2:1234=-1", "gpu-2:1234=x", "=4", "gpu-2:1=10001")
        ],
    ],
)
def test_rubbish_stops_the_start_and_is_named(name: str, good: str, bad: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: f"{good},{bad}"})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}, entry {bad!r}: expected ")
    assert good not in problem


def test_two_caps_for_one_address_stop_the_start() -> None:
    with pytest.raises(SettingsError, match=r"MAXCONN_MAP, entry 'a:1 \(given twice\)'"):
        load_settings({"MAXCONN_MAP": "a:1=2,b:1=2,A:1=3"})


# -- who becomes an endpoint -------------------------------------------------------------------------------------------


async def test_who_lists_models_becomes_an_endpoint_and_nobody_else_is_asked(
    closing: list[Expedition], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "balancer.discovery")
    found = Expedition(
        ("gpu-1", 1234),
        ("gpu-2", 8000),
        ("web", 80),
        ("locked", 80),
        ("nobody", 80),
        max_concurrent={("gpu-2", 8000): 4, ("elsewhere", 1): 9},
        default_max_concurrent=2,
        timeout_seconds=90.0,
    )
    closing.append(found)
    found.serve("gpu-1:1234", "gpu-2:8000", "elsewhere:1")
    found.backends.answers["web:80"] = httpx.Response(200, text="<html></html>")
    found.backends.answers["locked:80"] = httpx.Response(401)
    assert sorted(await found.scan()) == ["gpu-1:1234", "gpu-2:8000"]
    assert sorted(found.backends.asked) == ["gpu-1:1234", "gpu-2:8000", "locked:80", "nobody:80", "web:80"]
    first = next(fields for fields in found.created if fields["name"] == "gpu-1:1234")
    assert (
        first.items()
        >= {
            "base_url": "http://gpu-1:1234/v1",
            "discovered": True,
            "connected": False,
            "max_concurrent": 2,
            "timeout": 90.0,
        }.items()
    )
    assert {fields["name"]: fields["max_concurrent"] for fields in found.created}["gpu-2:8000"] == 4
    assert len({fields["pos_y"] for fields in found.created}) == 2, "not on top of each other"
    assert sorted(record.getMessage() for record in caplog.records) == [
        "found gpu-1:1234: reachable, lists 1 model",
        "found gpu-2:8000: reachable, lists 1 model",
        "nothing to add at locked:80: a key is needed (401)",
        "nothing to add at nobody:80: connection refused at nobody:80",
        "nothing to add at web:80: answered HTML: is this the right base URL? it usually ends in /v1",
    ]
    caplog.clear()
    found.serve("nobody:80")
    found.backends.answers["web:80"] = httpx.Response(500)
    await found.scan()
    assert sorted(record.getMessage() for record in caplog.records) == [
        "found nobody:80: reachable, lists 1 model",
        "nothing to add at web:80: answered 500 to GET /models",
    ]


async def test_who_answers_later_is_found_later_and_nobody_twice(closing: list[Expedition]) -> None:
    found = Expedition(("a", 1), ("b", 1), connect=True)
    closing.append(found)
    found.serve("a:1")
    assert await found.scan() == ["a:1"]
    found.serve("b:1")
    assert await found.scan() == ["a:1", "b:1"]
    assert await found.scan() == ["a:1", "b:1"]
    assert sorted(found.backends.asked) == ["a:1", "b:1", "b:1"], "an endpoint is its health's business"
    assert all(fields["connected"] for fields in found.created)


@pytest.mark.parametrize("base_url", ["http://gpu:1234/v1", "http://GPU:1234/v1/"])
async def test_what_is_an_endpoint_already_is_left_alone(closing: list[Expedition], base_url: str) -> None:
    found = Expedition(("gpu", 1234))
    closing.append(found)
    found.serve("gpu:1234")
    found.add(Endpoint(1, "my favourite", base_url))
    assert await found.scan() == []
    assert found.backends.asked == []


async def test_the_default_port_may_be_written_or_not(closing: list[Expedition]) -> None:
    found = Expedition(("gpu", 80))
    closing.append(found)
    found.serve("gpu:80")
    found.add(Endpoint(1, "a", "http://gpu/v1"))
    assert await found.scan() == []


async def test_another_path_or_port_is_another_endpoint(closing: list[Expedition]) -> None:
    found = Expedition(("gpu", 1234))
    closing.append(found)
    found.serve("gpu:1234")
    found.add(Endpoint(1, "a", "http://gpu:1234/other/v1"))
    found.add(Endpoint(2, "b", "http://gpu:1235/v1"))
    found.add(Endpoint(3, "c", "https://gpu:1234/v1"))
    found.add(Endpoint(4, "odd", "ftp://gpu:1234/v1"))
    assert await found.scan() == ["gpu:1234"]


async def test_what_was_deleted_or_moved_away_does_not_come_back(closing: list[Expedition]) -> None:
    found = Expedition(("a", 1), ("b", 1))
    closing.append(found)
    found.serve("a:1", "b:1")
    found.add(Endpoint(1, "by hand", "http://b:1/v1"))
    await found.scan()
    found.pool.apply([])
    assert await found.scan() == ["a:1"]
    assert found.backends.asked == ["a:1"]


async def test_one_made_by_hand_while_it_was_asked_stays_the_only_one(closing: list[Expedition]) -> None:
    found = Expedition(("a", 1))
    closing.append(found)
    found.serve("a:1")
    found.backends.hang("a:1")
    scan = asyncio.create_task(found.scan())
    await eventually(lambda: found.backends.asked)
    found.add(Endpoint(1, "by hand", "http://a:1/v1"))
    found.backends.release()
    assert await scan == []


async def test_a_name_that_is_taken_gets_a_number(closing: list[Expedition]) -> None:
    found = Expedition(("a", 1))
    closing.append(found)
    found.serve("a:1")
    found.add(Endpoint(1, "a:1", "http://other/v1"))
    found.add(Endpoint(2, "a:1 (2)", "http://another/v1"))
    assert await found.scan() == ["a:1 (3)"]


@pytest.mark.parametrize("refusal", [NameTaken("a:1"), StoreError("the disk is full")])
async def test_a_find_that_cannot_be_stored_is_told_once_and_tried_again(
    closing: list[Expedition], caplog: pytest.LogCaptureFixture, refusal: Exception
) -> None:
    found = Expedition(("a", 1))
    closing.append(found)
    found.serve("a:1")
    found.refusal = refusal
    for _ in range(3):
        assert await found.scan() == []
    assert [record.getMessage() for record in caplog.records] == [f"found a:1, but could not add it: {refusal}"]
    found.refusal = None
    assert await found.scan() == ["a:1"]


# -- one after the other, and all at once ------------------------------------------------------------------------------


async def test_hosts_that_hang_delay_nobody_and_no_more_than_so_many_are_asked_at_once(
    closing: list[Expedition],
) -> None:
    names = [(f"h{number}", 1) for number in range(8)]
    found = Expedition(*names, most_at_once=4)
    closing.append(found)
    found.backends.hang("h0:1", "h1:1", "h2:1")
    found.serve(*(f"h{number}:1" for number in range(3, 8)))
    scan = asyncio.create_task(found.scan())
    await eventually(lambda: len(found.created) == 5)
    assert not scan.done()
    assert [fields["name"] for fields in found.created] == [f"h{number}:1" for number in range(3, 8)]
    found.backends.release()
    await scan
    assert found.backends.most_under_way == 4


async def test_it_scans_again_and_again_and_stops_in_the_middle(closing: list[Expedition]) -> None:
    found = Expedition(("a", 1), ("b", 1), interval_seconds=0.01)
    closing.append(found)
    found.discovery.start()
    await eventually(lambda: found.backends.asked.count("a:1") >= 3)
    found.serve("a:1")
    await eventually(lambda: found.created)
    found.backends.hang("b:1")
    await eventually(lambda: found.backends.asked[-1] == "b:1")
    await found.discovery.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_mistake_of_ours_is_logged(closing: list[Expedition], caplog: pytest.LogCaptureFixture) -> None:
    found = Expedition(("a", 1))
    closing.append(found)
    found.serve("a:1")
    found.refusal = ZeroDivisionError()
    found.discovery.start()
    await eventually(lambda: caplog.records)
    assert caplog.records[0].getMessage() == "scanning has ended"


# -- in a whole balancer -----------------------------------------------------------------------------------------------


def scanning(*servers: FakeServer | RawServer, **settings: Any) -> dict[str, Any]:
    """Settings of a balancer that looks for these servers."""
    hosts = tuple(("127.0.0.1", server.port) for server in servers)
    return {"scan_hosts": hosts, "scan_interval_seconds": 0.02, "health_timeout_seconds": 0.5, **settings}


async def test_found_wired_used_gone_and_deleted(tmp_path: Path) -> None:
    health = {"health_interval_seconds": 0.02, "health_down_interval_seconds": 0.02}
    async with FakeServer(Behaviour(name="gpu")) as fake, RawServer(stays_silent) as silent:
        settings = scanning(silent, fake, maxconn_map=((("127.0.0.1", fake.port), 3),), **health)
        async with RunningBalancer(tmp_path, **settings) as balancer:
            pool = balancer.balancer.pool
            await eventually(lambda: pool.states, "discovery")
            name = f"127.0.0.1:{fake.port}"
            found = await balancer.endpoint(name)
            assert found["discovered"] and not found["connected"] and found["max_concurrent"] == 3
            assert (await balancer.chat()).status_code == 503
            (revision,) = (await balancer.admin("GET", "/revisions"))["revisions"]
            assert (revision["actor"], revision["summary"]) == ("discovery", f"{name}: added")
            renamed = await balancer.admin("PATCH", f"/endpoints/{found['id']}", {"connected": True, "name": "mine"})
            assert renamed["discovered"]
            await eventually(lambda: pool.states[1].health_status == "up")
            assert (await balancer.chat()).headers["x-lb-endpoint"] == "mine"
            await fake.stop_listening()
            await eventually(lambda: pool.states[1].health_status == "down")
            assert (await balancer.endpoint("mine"))["discovered"], "gone, but not deleted"
            await fake.listen_again()
            await eventually(lambda: pool.states[1].health_status == "up")
            await balancer.admin("DELETE", f"/endpoints/{found['id']}")
            asked = silent.connections
            await eventually(lambda: silent.connections >= asked + 2, "two more scans")
            assert not pool.states
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with RunningBalancer(tmp_path, **settings, discovery_connect=True) as balancer:
            await eventually(lambda: balancer.balancer.pool.states, "discovery in a new process")
            assert (await balancer.chat()).headers["x-lb-endpoint"] == name


async def test_nothing_is_scanned_unless_it_was_named(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path, scan_ports=(1234,)) as balancer:
        assert balancer.balancer.discovery is None


async def test_a_client_cannot_say_that_an_endpoint_was_discovered(tmp_path: Path) -> None:
    async with RunningBalancer(tmp_path) as balancer:
        body = {"name": "a", "base_url": "http://a/v1", "discovered": True}
        answer = await balancer.client.post(
            "/admin/api/endpoints", json=body, headers={"x-admin-token": "test-admin-token"}
        )
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["msg"] == "is set by the server"
