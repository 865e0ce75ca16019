"""Turns in an endpoint's life that an operator wants to read of, once each rather than with every request."""

from __future__ import annotations

import enum


class Notice(enum.Enum):
    """What happened to an endpoint."""

    OPENED = "opened"  # its failures took it out, or its test failed
    TESTED = "tested"  # its cooldown is over, and one request is its test
    REFUSED_CREDENTIALS = "refused credentials"
    THROTTLED = "throttled"  # it asked to be left alone, for the first time in a while
    RECOVERED = "recovered"  # it serves again after one of the first three
