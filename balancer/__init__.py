"""LLM load balancer: one stable address for several OpenAI-compatible backends, or the same routing inside a script.

Names are imported when they are first asked for: `import balancer` alone loads and opens nothing.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balancer.library.asynchronous import AsyncLoadBalancer
    from balancer.library.engine import Attempt
    from balancer.library.streams import AsyncChatStream
    from balancer.library.synchronous import ChatStream, LoadBalancer
    from balancer.library.values import BalancingStrategy, Endpoint
    from balancer.notebook import serve

__all__ = [
    "AsyncChatStream",
    "AsyncLoadBalancer",
    "Attempt",
    "BalancingStrategy",
    "ChatStream",
    "Endpoint",
    "LoadBalancer",
    "__version__",
    "serve",
]

__version__ = "0.1.0"

_HOMES = MappingProxyType(
    {
        "AsyncChatStream": "balancer.library.streams",
        "AsyncLoadBalancer": "balancer.library.asynchronous",
        "Attempt": "balancer.library.engine",
        "BalancingStrategy": "balancer.library.values",
        "ChatStream": "balancer.library.synchronous",
        "Endpoint": "balancer.library.values",
        "LoadBalancer": "balancer.library.synchronous",
        "serve": "balancer.notebook",
    }
)


def __getattr__(name: str) -> Any:
    """A public name of the library or the server in a thread, from where it lives."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'balancer' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__]
