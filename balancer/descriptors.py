"""How many files and connections this process may have open."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource

# Where the system sets no bound, as some containers do: more than one process can serve.
_ENOUGH = 1_048_576


def open_files() -> int:
    """The limit in force; 0 where there is none."""
    if sys.platform == "win32":
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def raise_open_files() -> int:
    """Raise the limit as far as the system lets us, and return it; 0 where there is none.

    The low limit that systems begin with is for programs that cannot bear high descriptors. We can.
    """
    if sys.platform == "win32":
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return open_files()
