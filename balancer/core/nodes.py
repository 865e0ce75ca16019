"""Nodes: what older systems call an endpoint, by nothing but its host and port. Not unique, where names are."""

from __future__ import annotations

from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def node_of(base_url: str) -> str:
    """The host:port of a normalised base URL, with the port even where it is the scheme's own; IPv6 in brackets."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{parts.port or _PORTS.get(parts.scheme, 0)}"


def names_node(text: str, base_url: str) -> bool:
    """Whether `text` means the node behind that base URL: in any case, and the scheme's own port may be left out."""
    node, wanted = node_of(base_url), text.strip().lower()
    default_port = f":{_PORTS.get(urlsplit(base_url).scheme, 0)}"
    return bool(wanted) and wanted in (node, node.removesuffix(default_port))
