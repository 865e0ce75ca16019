"""Totals as the store gets them: absolute, and true across deleting and restoring endpoints."""

from __future__ import annotations

from balancer.core.endpoints import Endpoint, Outcome, RouteRequest, Usage
from balancer.core.lease import Lease
from balancer.core.pool import EndpointPool
from balancer.store import EndpointTotals, MinuteUsage
from balancer.traffic import Traffic
from balancer.usage_feed import UsageFeed

GPU = Endpoint(1, "gpu-1", "http://gpu/v1", connected=True)


class Feed:
    """A feed over a pool of one endpoint, and the ways to make it count."""

    def __init__(self) -> None:
        self.pool, self.traffic = EndpointPool(), Traffic(lambda: 1000.0)
        self.pool.apply([GPU])
        self.feed = UsageFeed(self.pool, self.traffic)
        self.feed.restore({}, [])

    def begin(self) -> Lease:
        return self.pool.acquire(RouteRequest("m"), now=0.0)

    def end(self, lease: Lease) -> None:
        lease.release(Outcome.SUCCESS, 1.0, Usage(4, 6))
        self.traffic.changed_endpoints.add(1)

    def collected(self) -> EndpointTotals | None:
        batch = self.feed.collect()
        return batch.endpoints.get(1) if batch else None


def tokens(totals: EndpointTotals | None) -> int:
    assert totals is not None
    return totals.prompt_tokens_total + totals.completion_tokens_total


def test_nothing_new_is_nothing_to_write() -> None:
    feed = Feed()
    assert feed.feed.collect() is None
    feed.end(feed.begin())
    assert tokens(feed.collected()) == 10
    assert feed.feed.collect() is None


def test_restored_totals_go_on_and_the_running_minute_too() -> None:
    pool, traffic = EndpointPool(), Traffic(lambda: 1000.0)
    pool.apply([GPU])
    feed = UsageFeed(pool, traffic)
    feed.restore({1: EndpointTotals(7, 7, 0, 30, 40, 7, 70.0)}, [MinuteUsage(960, 1, requests=3)])
    assert pool.states[1].total_requests == 7
    assert traffic.minute(960, 1).requests == 3


def test_a_deleted_endpoint_comes_back_with_its_totals() -> None:
    for look_in_between in (False, True):
        feed = Feed()
        feed.end(feed.begin())
        feed.pool.apply([])
        if look_in_between:
            assert tokens(feed.collected()) == 10
        feed.pool.apply([GPU])
        feed.end(feed.begin())
        assert tokens(feed.collected()) == 20


def test_a_request_that_outlives_its_endpoint_counts_once() -> None:
    for look_in_between in (False, True):
        feed = Feed()
        feed.end(feed.begin())
        running = feed.begin()
        feed.pool.apply([])
        if look_in_between:
            feed.collected()
        feed.pool.apply([GPU])
        feed.end(running)
        assert tokens(feed.collected()) == 20


def test_a_request_that_ends_while_its_endpoint_is_deleted_counts() -> None:
    feed = Feed()
    running = feed.begin()
    feed.pool.apply([])
    feed.collected()
    feed.end(running)
    assert tokens(feed.collected()) == 10
    feed.pool.apply([GPU])
    feed.feed.collect()
    assert feed.pool.states[1].completion_tokens_total == 6


def test_the_memory_of_removed_endpoints_is_given_back() -> None:
    feed = Feed()
    feed.traffic.completion_passed(1, 0.0, 5)
    feed.pool.apply([])
    feed.feed.collect()
    assert not feed.traffic.by_endpoint
