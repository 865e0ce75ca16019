"""Numbers that all workers of one machine see at once: a memory-mapped table of plain 64-bit integers.

Each number has one writer, so nothing needs a lock. The memory is handed down as a descriptor and ends with the last
process that holds it. Standard library alone: the supervisor, which is to stay small, uses it too.
"""

from __future__ import annotations

import enum
import mmap
import os
import sys
import tempfile

# Ids are given in sequence and never again; beyond so many, endpoints would share places. Memory is taken only for
# those that are used.
MOST_ENDPOINTS = 1 << 20
_NUMBER_BYTES = 8


class Field(enum.IntEnum):
    """What is known of a worker. The supervisor writes RESTARTS, and clears the others of a worker that has ended."""

    PHASE = 0  # a Phase
    ACTIVE = 1  # requests under way, told while draining
    WAITING = 2  # requests in the queue
    REQUESTS = 3  # requests that the retry budget counts
    RETRIES = 4  # retries under way
    RETRIES_ALLOWED = 5
    RETRIES_REFUSED = 6  # since the worker began
    HIGHEST = 7  # the largest id of an endpoint that it counted for
    RESTARTS = 8
    CONNECTIONS = 9  # of clients, open now
    REFUSED_IN_TOTAL = 10  # connections beyond LB_MAX_CLIENT_CONNECTIONS, since the worker began
    REFUSED_OF_CLIENT = 11  # beyond LB_MAX_CONNECTIONS_PER_CLIENT
    HEADS_GIVEN_UP = 12
    BODIES_GIVEN_UP = 13


class Phase(enum.IntEnum):
    """Where a worker stands."""

    GONE = 0
    SERVING = 1
    DRAINING = 2


class Table:
    """The table of `workers` processes, seen by one that has the descriptor. `fileno` is inherited by children."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self.fileno = descriptor
        self.workers = workers
        self._map = mmap.mmap(descriptor, _size(workers))
        self._numbers = memoryview(self._map).cast("q")

    def __repr__(self) -> str:
        return f"<Table of {self.workers} workers, {self.alive} alive>"

    @classmethod
    def create(cls, workers: int) -> Table:
        """A new one, all zero. Raises OSError."""
        if sys.platform == "linux":
            descriptor = os.memfd_create("llm-balancer", 0)
        else:
            descriptor, name = tempfile.mkstemp(prefix="llm-balancer-")
            os.unlink(name)  # noqa: PTH108 - the supervisor does without pathlib
        os.set_inheritable(descriptor, True)
        os.ftruncate(descriptor, _size(workers))
        return cls(descriptor, workers)

    @property
    def alive(self) -> int:
        """Workers that serve or drain."""
        return sum(phase != Phase.GONE for phase in self.of_all(Field.PHASE))

    def of_all(self, field: Field) -> memoryview:
        """That number of every worker, by worker; each writes its own only."""
        return self._row(field)

    def inflight(self, endpoint_id: int) -> memoryview:
        """Requests in flight at that endpoint, by worker; each writes its own only."""
        return self._row(len(Field) + endpoint_id % MOST_ENDPOINTS)

    def note_used(self, worker: int, endpoint_id: int) -> None:
        """Say that `worker` is going to count for that endpoint."""
        highest = self.of_all(Field.HIGHEST)
        highest[worker] = max(highest[worker], endpoint_id % MOST_ENDPOINTS)

    def clear(self, worker: int) -> None:
        """What the worker held is free again: it has ended."""
        for endpoint_id in range(self.of_all(Field.HIGHEST)[worker] + 1):
            self.inflight(endpoint_id)[worker] = 0
        for field in Field:
            if field is not Field.RESTARTS:
                self.of_all(field)[worker] = 0

    def _row(self, number: int) -> memoryview:
        begin = number * self.workers
        return self._numbers[begin : begin + self.workers]


def _size(workers: int) -> int:
    return (len(Field) + MOST_ENDPOINTS) * workers * _NUMBER_BYTES
