"""The books of one card: which window each request belongs to, what is kept of it, what is charted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from load_tester.measures.records import NANOSECONDS, Failure, Record
from load_tester.measures.samples import Samples
from load_tester.measures.series import Series
from load_tester.measures.slo import GoodRequests, Objective, all_met, verdicts
from load_tester.measures.tally import Tally

RECENT = 500
MOST_ROWS = 20_000


@dataclass(slots=True)
class Segment:
    """A part of a run with figures of its own: a stage, or a step of a sweep. `level` is what was planned."""

    label: str
    of: str
    level: float
    tally: Tally


class Ledger:
    """Counts for one card. All stamps are monotonic nanoseconds; `objectives` judge requests and windows.

    `tokens_out` is what good answers hold; `tokens_spent` has what came before an answer broke off, too.
    """

    def __init__(self, objectives: tuple[Objective, ...]) -> None:
        self.objectives = objectives
        self.series = Series()
        self.window: Tally | None = None
        self.segments: list[Segment] = []
        self.recent: deque[Record] = deque(maxlen=RECENT)
        self.rows: list[Record] = []
        self.in_flight = self.sent = self.ok = self.failed = self.cancelled = self.tokens_out = 0
        self.tokens_spent = 0
        self.planned = 0
        self.planned_in_window = 0
        self.begun_ns = 0
        self._good = GoodRequests(objectives)
        self._open: list[Tally] = []
        self._clear_live()

    def begin(self, now_ns: int) -> None:
        """The run begins."""
        self.begun_ns = now_ns

    def judge_by(self, objectives: tuple[Objective, ...]) -> None:
        """Other objectives from now on."""
        self.objectives = objectives
        self._good = GoodRequests(objectives)

    def open_window(self, now_ns: int) -> Tally:
        """What is sent from now on counts."""
        if self.window is None:
            self.window = self._tally(now_ns)
            self._clear_live()
        return self.window

    def _clear_live(self) -> None:
        # Histograms from the first sample on: to be read every second without sorting.
        self.live_ttft, self.live_e2e = Samples(most_raw=0), Samples(most_raw=0)

    def open_segment(self, label: str, of: str, level: float, now_ns: int) -> Segment:
        """The same for a part of the run; ends the part before."""
        self.end_segment(now_ns)
        segment = Segment(label, of, level, self._tally(now_ns))
        self.segments.append(segment)
        return segment

    def end_segment(self, now_ns: int) -> None:
        """The present part is over."""
        if self.segments:
            self.segments[-1].tally.end(now_ns)

    def end_window(self, now_ns: int) -> None:
        """What ends from now on counts in no rate any more."""
        self.end_segment(now_ns)
        if self.window is not None:
            self.window.end(now_ns)

    def note_planned(self) -> None:
        """A request is due by the schedule."""
        self.planned += 1
        self.series.planned += 1
        if self.window is not None and not self.window.ended_ns:
            self.planned_in_window += 1

    def note_missed(self, due_ns: int) -> None:
        """A request was due and is not even tried, because the load tester itself was late."""
        self.planned += 1
        window = self.window
        if window is not None and window.begun_ns <= due_ns and not (window.ended_ns and due_ns > window.ended_ns):
            self.planned_in_window += 1

    def note_sent(self, now_ns: int) -> None:
        """A request goes out."""
        self.sent += 1
        self.in_flight += 1
        self.series.offered += 1
        for tally in self._open:
            tally.note_level(1, now_ns)
            if not tally.ended_ns:
                tally.note_sent(now_ns)

    def note_done(self, record: Record) -> None:
        """A request is over."""
        self.in_flight -= 1
        self._count(record)
        for tally in self._open:
            tally.note_level(-1, record.ended_ns)
            tally.add(record)
        self.recent.append(record)
        if len(self.rows) < MOST_ROWS and any(tally.holds(record) for tally in self._open):
            self.rows.append(record)
        record.gaps_ns = []  # pooled by now; kept, they would be most of the memory

    def _count(self, record: Record) -> None:
        series = self.series
        self.tokens_spent += record.tokens_out or record.chunks
        if record.ok:
            self.ok += 1
            self.tokens_out += record.tokens_out
            series.ok += 1
            if record.e2e_ns is not None:
                series.e2es_ms.append(record.e2e_ns / 1e6)
                self.live_e2e.add(record.e2e_ns)
            if record.ttft_ns is not None:
                self.live_ttft.add(record.ttft_ns)
        elif record.failure is Failure.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
            series.failed += 1

    def tick(self, now_ns: int) -> None:
        """Close the seconds that are over."""
        if self.begun_ns:
            self.series.advance((now_ns - self.begun_ns) / NANOSECONDS, self.in_flight)

    @property
    def kept(self) -> list[Record]:
        """The first requests of the windows, and the latest of all."""
        first = {record.number for record in self.rows}
        return self.rows + [record for record in self.recent if record.number not in first]

    def summary(self, now_ns: int) -> dict[str, Any] | None:
        """Figures of the window; None before it begins."""
        return None if self.window is None else self.window.summary(now_ns)

    def judged(self, summary: dict[str, Any] | None) -> list[Any]:
        """The objectives held against a summary."""
        return [] if summary is None else list(verdicts(self.objectives, summary))

    def segment_json(self, segment: Segment, now_ns: int) -> dict[str, Any]:
        """A part of the run as it is shown."""
        summary = segment.tally.summary(now_ns)
        judged = verdicts(self.objectives, summary)
        met = all_met(judged) if judged else None
        return {
            "label": segment.label,
            "of": segment.of,
            "level": segment.level,
            "begun_seconds": (segment.tally.begun_ns - self.begun_ns) / NANOSECONDS,
            "summary": summary,
            "slo": judged,
            "slo_met": met,
        }

    def _is_good(self, record: Record) -> bool:
        return self._good(record)  # the objectives may change while windows are open

    def _tally(self, now_ns: int) -> Tally:
        tally = Tally(now_ns, self._is_good, in_flight=self.in_flight)
        # A segment that is over still waits for the answers to what was sent in it.
        self._open = [each for each in self._open if each is self.window or not each.settled]
        self._open.append(tally)
        return tally
