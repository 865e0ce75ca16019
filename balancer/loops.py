"""Which event loop the balancer runs on: uvloop where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

try:
    import uvloop

    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:  # not on Windows
    new_event_loop = asyncio.new_event_loop
