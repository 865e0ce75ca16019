"""Log lines on standard error: for people, or one JSON object each. Never a prompt, never a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_TEXT_OF_WORKER = "%%(asctime)s %%(levelname)-7s worker %d %%(name)s: %%(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, further fields, the traceback where there is one.

    `worker`: its number, which of several processes writes.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(self._worker)
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure(level: str, log_format: str, worker: int | None = None) -> None:
    """Send all logs to standard error. `level` is a name of the logging module, `log_format` "text" or "json".

    `worker`: the number of this process among several, to stand in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = _TEXT if worker is None else _TEXT_OF_WORKER % worker
    handler.setFormatter(JsonFormatter(worker) if log_format == "json" else logging.Formatter(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell of every request or connection at INFO; what matters of it stands in our own lines.
    for chatty in ("httpx", "httpcore", "uvicorn", "alembic", "aiosqlite", "sqlalchemy.engine"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
