"""What a revision did, as one line an operator can read: "gpu-1: connected; gpu-2: quota 30 -> 40"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from balancer.store.records import RecordedChange

# An import can touch hundreds of endpoints; the whole list stands in the revision's changes.
_MOST_CHANGES = 8

_SWITCHES: Mapping[str, tuple[str, str]] = {
    "connected": ("connected", "disconnected"),
    "enabled": ("enabled", "disabled"),
    "verify_tls": ("TLS verified", "TLS not verified"),
    "include_usage": ("usage asked for", "usage not asked for"),
    "health_check": ("health checked", "health not checked"),
}
_SHORT_VALUES: Mapping[str, str] = {
    "token_quota_percent": "quota",
    "priority_order": "priority",
    "max_concurrent": "max concurrent",
    "weight": "weight",
    "timeout": "timeout",
    "price_per_million_input": "input price",
    "price_per_million_output": "output price",
}


def summary(changes: Sequence[RecordedChange]) -> str:
    """All changes of one revision in words, never a provider key."""
    parts = [_change_words(change) for change in changes[:_MOST_CHANGES]]
    if len(changes) > _MOST_CHANGES:
        parts.append(f"and {len(changes) - _MOST_CHANGES} more")
    return "; ".join(parts)


def _change_words(change: RecordedChange) -> str:
    if change.before is None:
        return f"{change.name}: added"
    if change.after is None:
        return f"{change.name}: deleted"
    if change.endpoint_id is None:
        return f"routing mode {change.before['routing_mode']} -> {change.after['routing_mode']}"
    words = [_field_words(name, change.before[name], value) for name, value in change.after.items()]
    return f"{change.name}: {', '.join(words)}"


def _field_words(name: str, before: object, after: object) -> str:
    if name == "name":
        return f"renamed from {before}"
    if name == "api_key_id":
        return "key set" if before is None else "key removed" if after is None else "key changed"
    if name in _SWITCHES:
        return _SWITCHES[name][0 if after else 1]
    if name in _SHORT_VALUES:
        return f"{_SHORT_VALUES[name]} {_number(before)} -> {_number(after)}"
    return f"{name.replace('_', ' ')} changed"


def _number(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
