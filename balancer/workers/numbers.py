"""The table as one worker uses it: its own numbers written, the others' added up."""

from __future__ import annotations

from balancer.workers.table import Field, Phase, Table


class TableInFlight:
    """One endpoint's row of the table."""

    __slots__ = ("_row", "_worker")

    def __init__(self, row: memoryview, worker: int) -> None:
        self._row = row
        self._worker = worker

    def elsewhere(self) -> int:
        """How many the other workers have."""
        return sum(self._row) - self._row[self._worker]

    def publish(self, own: int) -> None:
        """Write how many this worker has."""
        self._row[self._worker] = own


class WorkerNumbers:
    """Worker number `worker` of `table`; what a predecessor of the same number left there is gone."""

    def __init__(self, table: Table, worker: int) -> None:
        self.table = table
        self.worker = worker
        table.clear(worker)

    def __repr__(self) -> str:
        return f"<WorkerNumbers of {self.worker} in {self.table!r}>"

    def endpoint(self, endpoint_id: int) -> TableInFlight:
        """What is in flight at that endpoint."""
        self.table.note_used(self.worker, endpoint_id)
        return TableInFlight(self.table.inflight(endpoint_id), self.worker)

    def publish(self, field: Field, number: int) -> None:
        """Write one number of this worker."""
        self.table.of_all(field)[self.worker] = number

    def elsewhere(self, field: Field) -> int:
        """The sum of that number over all other workers."""
        row = self.table.of_all(field)
        return int(sum(row) - row[self.worker])

    def waiting_elsewhere(self) -> int:
        """Requests that wait in the queues of the other workers."""
        return self.elsewhere(Field.WAITING)

    def publish_waiting(self, own: int) -> None:
        """Write how many wait here."""
        self.publish(Field.WAITING, own)

    def others_are_busy(self) -> bool:
        """While this worker drains: whether another one has requests under way, or has not begun to drain."""
        rows = zip(self.table.of_all(Field.PHASE), self.table.of_all(Field.ACTIVE), strict=True)
        return any(
            phase == Phase.SERVING or (phase == Phase.DRAINING and active > 0)
            for worker, (phase, active) in enumerate(rows)
            if worker != self.worker
        )
