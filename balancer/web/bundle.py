"""The built pages: which files they have, and what a shell that loads one must name. Read once, served from memory."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from balancer.core.errors import BalancerError

MANIFEST = ".vite/manifest.json"
ICON = "favicon.svg"

logger = logging.getLogger("balancer.web")

_PACKAGE = Path(__file__).resolve().parent.parent
# In an installed package, and in the checkout they were built in.
_DIRECTORIES = (_PACKAGE / "_webui", _PACKAGE.parent / "webui" / "dist")
_ASSETS = "assets/"
# By ending, and not by what the machine's tables say: a script of another type would not be run.
_TYPES = MappingProxyType(
    {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
        ".json": "application/json",
        ".map": "application/json",
        ".txt": "text/plain; charset=utf-8",
        ".png": "image/png",
        ".webp": "image/webp",
        ".woff2": "font/woff2",
    }
)
_PACKED_ALREADY = frozenset({".png", ".webp", ".woff2"})


class BundleError(BalancerError):
    """What should be the built pages is not; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `packed` is the same in gzip, None where that would not be shorter."""

    content: bytes = field(repr=False)
    content_type: str
    packed: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One of the built pages. Names are as in the bundle, with slashes: `assets/editor-1f2e.js`.

    `script`, `styles` and `preloads` are what a page loads. `assets` holds every file that may be asked for.
    """

    script: str
    styles: tuple[str, ...]
    preloads: tuple[str, ...]
    assets: Mapping[str, Asset] = field(repr=False)

    @property
    def icon(self) -> str | None:
        """The name of the icon, if there is one."""
        return ICON if ICON in self.assets else None


def find_bundle(entry: str) -> Bundle | None:
    """The page named `entry`: in the package, or in the checkout it was built in. Without it all else works."""
    for directory in _DIRECTORIES:
        if (directory / MANIFEST).is_file():
            try:
                return read_bundle(directory, entry)
            except BundleError as error:
                logger.error("no page %s: %s", entry, error)
    return None


def read_bundle(directory: Path, entry: str) -> Bundle:
    """Read the page named `entry` and every file of the bundle. Raises BundleError."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        assets = {name: _asset(path) for name, path in _files(directory)}
        return _bundle(manifest, entry, assets)
    except BundleError as error:
        raise BundleError(f"{directory}: {error}") from None
    except OSError as error:
        raise BundleError(f"{directory}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{directory}: has no manifest as vite writes it") from None


def _bundle(manifest: Mapping[str, Any], entry: str, assets: Mapping[str, Asset]) -> Bundle:
    begin = next((key for key, chunk in manifest.items() if chunk.get("isEntry") and chunk.get("name") == entry), None)
    if begin is None:
        raise BundleError(f"has no entry named {entry}")
    chunks = list(_with_imports(manifest, begin, set()))
    styles = dict.fromkeys(style for chunk in chunks for style in chunk.get("css", ()))
    *preloads, script = (chunk["file"] for chunk in chunks)
    for name in (script, *preloads, *styles):
        if name not in assets:
            raise BundleError(f"lacks {name}")
    return Bundle(script, tuple(styles), tuple(preloads), MappingProxyType(dict(assets)))


def _with_imports(manifest: Mapping[str, Any], key: str, seen: set[str]) -> Iterator[Mapping[str, Any]]:
    """What a chunk imports at once, then itself; not what it imports later, when it is needed.

    In this order, that of the modules, its styles prevail over those it builds on.
    """
    if key in seen:
        return
    seen.add(key)
    for each in manifest[key].get("imports", ()):
        yield from _with_imports(manifest, each, seen)
    yield manifest[key]


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """What may be served. Files of the pages as their builder sees them are none of it."""
    for path in sorted((directory / _ASSETS).rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            yield path.relative_to(directory).as_posix(), path
    if (directory / ICON).is_file():
        yield ICON, directory / ICON


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    packed = None
    if path.suffix not in _PACKED_ALREADY:
        beside = path.with_name(path.name + ".gz")
        packed = beside.read_bytes() if beside.is_file() else gzip.compress(content, mtime=0)
    return Asset(content, _TYPES[path.suffix], packed if packed and len(packed) < len(content) else None)
