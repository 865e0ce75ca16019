"""A page: a shell without any data in it, and the files of the bundle that it loads.

Served without authorization: what it shows it asks an API for, which wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from balancer.web.bundle import Asset, Bundle

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_SAFE: Mapping[str, str] = MappingProxyType({"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"})
_PAGE: Mapping[str, str] = MappingProxyType(
    {
        **_SAFE,
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
)
# Names of assets change with their content, that of the icon does not.
_FOR_EVER = "public, max-age=31536000, immutable"
_FOR_AN_HOUR = "public, max-age=3600"


@dataclass(frozen=True, slots=True)
class Words:
    """What a shell says itself. `title` of the page; `program` and `page` as people call them; `api` is its address."""

    title: str
    program: str
    page: str
    api: str


class Page:
    """Everything below `path` ("" is the root of the site) but the API.

    `bundle` None: the page was not built; a 503 says how to do it.
    """

    def __init__(self, path: str, bundle: Bundle | None, version: str, words: Words) -> None:
        self._path = path
        self._assets: Mapping[str, Asset] = {} if bundle is None else bundle.assets
        self._status = 503 if bundle is None else 200
        self._page = _rendered(path, bundle, version, words)

    def __repr__(self) -> str:
        return f"<Page {self._path or '/'}: {len(self._assets)} assets>"

    def routes(self) -> list[BaseRoute]:
        """The page, and the files it loads."""
        return [
            *([Route(self._path, self._answer_page)] if self._path else []),
            Route(self._path + "/", self._answer_page),
            Route(self._path + "/assets/{name:path}", self._answer_asset),
            Route(self._path + "/favicon.svg", self._answer_icon),
        ]

    async def _answer_page(self, _: Request) -> Response:
        return Response(self._page, self._status, _PAGE, "text/html")

    async def _answer_asset(self, request: Request) -> Response:
        return self._file(request, "assets/" + request.path_params["name"], _FOR_EVER)

    async def _answer_icon(self, request: Request) -> Response:
        return self._file(request, "favicon.svg", _FOR_AN_HOUR)

    def _file(self, request: Request, name: str, caching: str) -> Response:
        asset = self._assets.get(name)
        if asset is None:
            return PlainTextResponse("no such file\n", 404, {**_SAFE, "cache-control": "no-store"})
        headers = {**_SAFE, "content-type": asset.content_type, "cache-control": caching}
        if asset.packed is None:
            return Response(asset.content, headers=headers)
        headers["vary"] = "accept-encoding"
        if not _takes_gzip(request):
            return Response(asset.content, headers=headers)
        return Response(asset.packed, headers={**headers, "content-encoding": "gzip"})


def _rendered(path: str, bundle: Bundle | None, version: str, words: Words) -> bytes:
    templates = Environment(
        loader=PackageLoader("balancer.web"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    if bundle is None:
        return templates.get_template("missing.html").render(words=words).encode()
    page = templates.get_template("page.html").render(
        words=words,
        version=version,
        icon=bundle.icon and f"{path}/{bundle.icon}",
        script=f"{path}/{bundle.script}",
        styles=[f"{path}/{name}" for name in bundle.styles],
        preloads=[f"{path}/{name}" for name in bundle.preloads],
    )
    return page.encode()


def _takes_gzip(request: Request) -> bool:
    """RFC 9110 section 12.5.3, as far as browsers use it: gzip is named and not ruled out."""
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
