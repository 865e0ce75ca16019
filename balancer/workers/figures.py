"""Figures of all workers together, for those who look at the lead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.retries import RetryBudget
from balancer.proxy.reception import Reception
from balancer.workers.numbers import WorkerNumbers
from balancer.workers.table import Field, Table

_OF_BUDGET = (Field.REQUESTS, Field.RETRIES, Field.RETRIES_ALLOWED, Field.RETRIES_REFUSED)


class WholeBudget:
    """The retry budgets of all workers, added up: each keeps its own by its own requests."""

    def __init__(self, own: RetryBudget, numbers: WorkerNumbers) -> None:
        self._own = own
        self._numbers = numbers

    @property
    def limit(self) -> int:
        """Retries that may be under way."""
        return self._own.limit + self._numbers.elsewhere(Field.RETRIES_ALLOWED)

    @property
    def active_retries(self) -> int:
        """Retries under way."""
        return self._own.active_retries + self._numbers.elsewhere(Field.RETRIES)

    @property
    def active_requests(self) -> int:
        """Requests under way."""
        return self._own.active_requests + self._numbers.elsewhere(Field.REQUESTS)

    @property
    def refused_total(self) -> int:
        """Retries that were refused since each worker began."""
        return self._own.refused_total + self._numbers.elsewhere(Field.RETRIES_REFUSED)


def publish_budget(budget: RetryBudget, numbers: WorkerNumbers) -> None:
    """Let the lead know the budget of this worker."""
    figures = (budget.active_requests, budget.active_retries, budget.limit, budget.refused_total)
    for field, number in zip(_OF_BUDGET, figures, strict=True):
        numbers.publish(field, number)


_OF_CLIENTS: Mapping[str, Mapping[str, Field]] = MappingProxyType(
    {
        "refused": {"total": Field.REFUSED_IN_TOTAL, "client": Field.REFUSED_OF_CLIENT},
        "given_up": {"head": Field.HEADS_GIVEN_UP, "body": Field.BODIES_GIVEN_UP},
    }
)


class WholeCounts(Mapping[str, int]):
    """One of a reception's counters, "refused" or "given_up", with those of the other workers added."""

    def __init__(self, own: Mapping[str, int], name: str, numbers: WorkerNumbers) -> None:
        self._own = own
        self._fields = _OF_CLIENTS[name]
        self._numbers = numbers

    def __getitem__(self, key: str) -> int:
        return self._own[key] + self._numbers.elsewhere(self._fields[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def publish_clients(reception: Reception, numbers: WorkerNumbers) -> None:
    """Let the lead know of the connections of this worker's clients."""
    numbers.publish(Field.CONNECTIONS, reception.open)
    for name, counts in (("refused", reception.refused), ("given_up", reception.given_up)):
        for key, field in _OF_CLIENTS[name].items():
            numbers.publish(field, counts[key])


class WorkersCollector(Collector):
    """Metrics of the processes themselves."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def collect(self) -> Iterable[Metric]:
        """Of this moment."""
        yield GaugeMetricFamily("lb_workers", "Worker processes that serve.", self._table.alive)
        restarts = CounterMetricFamily("lb_worker_restarts", "Workers that died and were replaced.", labels=["worker"])
        for worker, count in enumerate(self._table.of_all(Field.RESTARTS)):
            restarts.add_metric([str(worker)], count)
        yield restarts
