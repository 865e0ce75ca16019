"""Everything the load tester refuses or cannot do, as one tree; each message says what is wrong and how to go on."""

from __future__ import annotations


class LoadTesterError(Exception):
    """Root of all errors that the load tester raises on purpose."""


class BadInput(LoadTesterError):
    """A value that cannot be used; `field` names it as the caller does, with dots and positions."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else problem)


class ForbiddenTarget(BadInput):
    """A target that no load may be sent to."""


class TargetFailed(LoadTesterError):
    """The target did not answer what had to be known before a run."""


class NotFound(LoadTesterError):
    """There is no run, profile, key or set of prompts of that name."""


class NotRunning(LoadTesterError):
    """What was asked for needs a run that is under way."""


class HistoryError(LoadTesterError):
    """The file of past runs cannot be used."""
