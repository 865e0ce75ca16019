"""Where load may not go, and how a target stays the one that was checked."""

from __future__ import annotations

import ipaddress
import json
import ssl
from pathlib import Path

import pytest
import trustme

from load_tester.engine.run import Plan, prepare
from load_tester.engine.targets import TargetRules, forbidden, pin
from load_tester.errors import BadInput, ForbiddenTarget
from load_tester.plan.cards import Caps, read_card
from tests.fakes import FakeServer
from tests.load_parts import load, outcome, prepared
from tests.raw_server import RawRequest, RawServer, answer, says
from tests.running import eventually


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "240.0.0.1",
    ],
)
def test_what_is_never_a_target(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2606:4700::1"]
)
def test_what_may_be_one(address: str) -> None:
    assert forbidden(ipaddress.ip_address(address)) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/v1",
        "http://0.0.0.0:8090/v1",
        "http://[fe80::1%25eth0]/v1",
    ],
)
async def test_urls_that_lead_there_are_refused(url: str) -> None:
    with pytest.raises(ForbiddenTarget, match="no load is sent there"):
        await pin(url, TargetRules())


async def test_other_spellings_of_an_address_are_that_address() -> None:
    # The system's resolver takes these for 169.254.169.254, so they are checked as that.
    for url in ("http://2852039166/v1", "http://0xa9fea9fe/v1"):
        with pytest.raises(BadInput):
            await pin(url, TargetRules())


async def test_a_name_nobody_knows() -> None:
    with pytest.raises(BadInput, match="not known"):
        await pin("http://nowhere.invalid/v1", TargetRules())


async def test_only_what_is_allowed() -> None:
    by_network = TargetRules(allowed=(ipaddress.ip_network("127.0.0.0/8"),))
    assert (await pin("http://127.0.0.1:9/v1", by_network)).connect_to == ("127.0.0.1", 9)
    by_name = TargetRules(allowed=("api.example.org",))
    with pytest.raises(ForbiddenTarget, match="LT_ALLOW_HOSTS"):
        await pin("http://127.0.0.1:9/v1", by_name)
    # Being allowed does not make a forbidden address a target.
    everywhere = TargetRules(allowed=(ipaddress.ip_network("0.0.0.0/0"),))
    with pytest.raises(ForbiddenTarget, match="link-local"):
        await pin("http://169.254.169.254/v1", everywhere)


async def test_a_rewrite_connects_elsewhere_and_keeps_the_name() -> None:
    async with FakeServer() as backend:
        rules = TargetRules(rewrites={("typed.example", 80): ("127.0.0.1", backend.port)})
        target = await pin("http://typed.example/v1", rules)
        assert target.connect_to == ("127.0.0.1", backend.port)
        assert (target.host, target.authority) == ("typed.example", b"typed.example")


async def test_a_rewrite_cannot_lead_to_a_forbidden_address() -> None:
    rules = TargetRules(rewrites={("typed.example", 80): ("169.254.169.254", 80)})
    with pytest.raises(ForbiddenTarget):
        await pin("http://typed.example/v1", rules)


async def test_localhost_takes_the_address_that_listens() -> None:
    async with FakeServer() as backend:
        run = await load(f"http://localhost:{backend.port}/v1", stop={"requests": 2})
        assert outcome(run)["totals"]["ok"] == 2
        assert backend.stats.last_headers["host"] == f"localhost:{backend.port}"


async def test_redirects_are_not_followed() -> None:
    async with FakeServer() as backend:
        backend.behaviour = backend.behaviour.changed({"fault": "redirect"})
        run = await load(backend, stop={"requests": 1})
        assert backend.stats.total_requests == 1
    assert outcome(run)["summary"]["errors"][0]["class"] == "3xx"


async def test_a_run_stays_with_the_address_it_was_checked_for() -> None:
    async with FakeServer() as backend:
        run = await prepared({"url": f"http://localhost:{backend.port}/v1", "stop": {"requests": 30}})
        task = run.start()
        await eventually(lambda: run.cards[0].ledger.ok > 0)
        await task
    # All went to one address of the name's, by the same few connections.
    assert outcome(run)["connections_opened"] == 1


async def test_tls_goes_on_naming_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("typed.example").configure_cert(context)
    message = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    seen: list[RawRequest] = []
    script = says(answer(json.dumps(message).encode(), b"content-type: application/json"), seen=seen)
    async with RawServer(script, ssl=context) as server:
        there = ("127.0.0.1", server.port)
        rules = TargetRules(rewrites={("typed.example", 443): there, ("other.example", 443): there})
        results = []
        for host in ("typed.example", "other.example"):
            card = read_card({"url": f"https://{host}/v1", "stop": {"requests": 1}, "stream": False})
            run = await prepare(Plan((card,), ("",)), rules, Caps(), {}, "test")
            await run.run()
            results.append(outcome(run))
    assert results[0]["totals"]["ok"] == 1
    assert b"host: typed.example" in seen[0].lines
    (error,) = results[1]["summary"]["errors"]
    assert error["class"] == "tls" and "certificate verify failed" in error["sample"]
