"""Probes, the deciding part: rise and fall, standing, and when the next one comes."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint, RouteRequest
from balancer.core.errors import NoneEligible
from balancer.core.pool import EndpointPool
from balancer.core.probes import Finding, HealthStatus, Probe, ProbeRules, Vitals
from balancer.core.reasons import Reason, describe

RULES = ProbeRules(interval_seconds=10.0, down_interval_seconds=2.0, rise=2, fall=3)
ALIVE, FAILED, CREDENTIALS = Finding.ALIVE, Finding.FAILED, Finding.CREDENTIALS
UP, DOWN, UNKNOWN = HealthStatus.UP, HealthStatus.DOWN, HealthStatus.UNKNOWN


def probe(finding: Finding) -> Probe:
    return Probe(finding, "why", 1.0, 0.01)


def standing(*findings: Finding, rules: ProbeRules = RULES) -> HealthStatus:
    vitals, healthy = Vitals(), True
    for finding in findings:
        healthy = vitals.take(probe(finding), rules, healthy=healthy)
    return vitals.status(healthy=healthy)


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([], UNKNOWN),
        ([ALIVE], UP),
        ([CREDENTIALS], HealthStatus.CREDENTIALS),
        ([FAILED], UNKNOWN),
        ([FAILED, FAILED], UNKNOWN),
        ([FAILED, FAILED, FAILED], DOWN),
        ([ALIVE, FAILED, FAILED], UP),
        ([ALIVE, FAILED, FAILED, FAILED], DOWN),
        ([FAILED, FAILED, ALIVE, FAILED, FAILED], UP),
        ([FAILED, FAILED, FAILED, ALIVE], DOWN),
        ([FAILED, FAILED, FAILED, ALIVE, ALIVE], UP),
        ([FAILED, FAILED, FAILED, ALIVE, FAILED, ALIVE], DOWN),
        ([FAILED, FAILED, FAILED, CREDENTIALS, CREDENTIALS], HealthStatus.CREDENTIALS),
        ([CREDENTIALS, ALIVE], UP),
    ],
)
def test_several_in_a_row_decide(findings: list[Finding], status: HealthStatus) -> None:
    assert standing(*findings) is status


@given(st.lists(st.sampled_from(Finding)), st.integers(1, 4), st.integers(1, 4))
def test_only_so_many_in_a_row_turn_it(findings: list[Finding], rise: int, fall: int) -> None:
    rules = ProbeRules(rise=rise, fall=fall)
    vitals, healthy = Vitals(), True
    for number, finding in enumerate(findings, start=1):
        was_healthy, healthy = healthy, vitals.take(probe(finding), rules, healthy=healthy)
        last = findings[max(0, number - (fall if was_healthy else rise)) : number]
        if was_healthy:
            assert healthy == (len(last) < fall or any(each is not FAILED for each in last))
        else:
            assert healthy == (len(last) == rise and all(each is not FAILED for each in last))
        assert vitals.count == number
        assert (vitals.failures == 0) != (vitals.passes == 0)


def pauses(rules: ProbeRules, *findings: Finding, healthy: bool = True) -> list[float]:
    """Many draws of the pause after those findings."""
    vitals, rng = Vitals(), Random(1)
    for finding in findings:
        vitals.take(probe(finding), rules, healthy=healthy)
    return [rules.pause_seconds(vitals, rng, healthy=healthy) for _ in range(500)]


def test_the_first_comes_within_a_second_and_not_at_once_for_all() -> None:
    rng = Random(1)
    firsts = sorted(RULES.first_pause_seconds(rng) for _ in range(200))
    assert firsts[0] >= 0 and firsts[-1] <= 1.0
    assert all(later - earlier < 0.1 for earlier, later in pairwise(firsts))
    assert ProbeRules(interval_seconds=0.2).first_pause_seconds(rng) <= 0.2


def test_the_second_spreads_a_fleet_over_the_interval_and_the_others_keep_it_there() -> None:
    second, later = pauses(RULES, ALIVE), pauses(RULES, ALIVE, ALIVE)
    assert 1 <= min(second) < 2 and 10 < max(second) <= 11
    assert 9 <= min(later) < 9.2 and 10.8 < max(later) <= 11


@pytest.mark.parametrize(
    ("findings", "healthy"), [([ALIVE, FAILED], True), ([ALIVE, FAILED], False), ([FAILED, ALIVE], False)]
)
def test_in_doubt_they_come_faster(findings: list[Finding], healthy: bool) -> None:
    found = pauses(RULES, *findings, healthy=healthy)
    assert min(found) >= 1.8 and max(found) <= 2.2
    slower_when_down = ProbeRules(interval_seconds=1.0, down_interval_seconds=60.0)
    assert max(pauses(slower_when_down, *findings, healthy=healthy)) <= 1.1


def test_who_is_down_is_told_with_the_reason() -> None:
    pool = EndpointPool()
    pool.apply([Endpoint(1, "a", "http://a/v1", connected=True), Endpoint(2, "b", "http://b/v1", connected=True)])
    state = pool.states[1]
    state.vitals = Vitals()
    state.vitals.take(Probe(FAILED, "connection refused at a:80", 1.0, 0.0), RULES, healthy=True)
    state.healthy = False
    assert pool.why_not(state, RouteRequest(None), 0.0) is Reason.UNHEALTHY
    assert describe(state, Reason.UNHEALTHY, 0.0) == "unhealthy: connection refused at a:80"
    pool.states[2].healthy = False
    with pytest.raises(NoneEligible) as refused:
        pool.acquire(RouteRequest(None), 0.0, may_panic=False)
    assert refused.value.reasons == {"a": "unhealthy: connection refused at a:80", "b": "unhealthy"}


@pytest.mark.parametrize(
    ("listed", "asked", "served"),
    [
        ("llama3:latest", "llama3", True),
        ("llama3:latest", "llama3:latest", True),
        ("llama3:8b", "llama3", False),
        ("models/gemini-pro", "gemini-pro", True),
        ("models/gemini-pro", "pro", False),
        ("llama3", "llama3:latest", False),
        ("a{}b", "a{}b", True),
        ("{}", "{0}", False),
    ],
)
def test_a_listed_model_is_served_by_its_plain_name_too(listed: str, asked: str, served: bool) -> None:
    pool = EndpointPool()
    pool.apply([Endpoint(1, "a", "http://a/v1", connected=True)])
    pool.states[1].discovered_models = frozenset({listed})
    assert pool.states[1].serves(asked) is served
