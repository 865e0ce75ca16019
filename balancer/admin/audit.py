"""Who did what over the admin API, as lines of the log: one for each change, each login and each refusal.

Names and numbers only; what was changed in the configuration stands in its revision.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

logger = logging.getLogger("balancer.audit")


def note(event: str, words: str, fields: Mapping[str, object], *, level: int = logging.INFO) -> None:
    """Write one line: `words` for people, `event` and `fields` beside it in JSON. Neither may hold a secret."""
    logger.log(level, "%s", words, extra={"fields": {"event": event, **fields}})
