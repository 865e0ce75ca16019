"""The admin pages: one shell without any data in it, the files of the built editor, and the way there.

Served without authorization: what they show they ask the admin API for, which wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from balancer.admin.bundle import Asset, Bundle

PATH = "/admin"

_POLICY = "; ".join(
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
        "content-security-policy": _POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
)
# Names of assets change with their content, that of the icon does not.
_FOR_EVER = "public, max-age=31536000, immutable"
_FOR_AN_HOUR = "public, max-age=3600"


class AdminPages:
    """Everything at `/admin` but the API. `bundle` None: the editor was not built; the page says how to do it."""

    def __init__(self, bundle: Bundle | None, version: str) -> None:
        self._assets: Mapping[str, Asset] = {} if bundle is None else bundle.assets
        self._status = 503 if bundle is None else 200
        self._page = _rendered(bundle, version)

    def __repr__(self) -> str:
        return f"<AdminPages: {len(self._assets)} assets>"

    def routes(self) -> list[BaseRoute]:
        """The page, the files it loads, and the way from the root of the site."""
        return [
            Route(PATH, self._answer_page),
            Route(PATH + "/", self._answer_page),
            Route(PATH + "/assets/{name:path}", self._answer_asset),
            Route(PATH + "/favicon.svg", self._answer_icon),
            Route("/", _show_the_way),
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


async def _show_the_way(request: Request) -> Response:
    """A person who opens the address wants the editor; a program gets what it gets for any path there is not."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse(PATH, 307, {"cache-control": "no-store", "vary": "accept"})


def _rendered(bundle: Bundle | None, version: str) -> bytes:
    templates = Environment(
        loader=PackageLoader("balancer.admin"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    if bundle is None:
        return templates.get_template("missing.html").render().encode()
    page = templates.get_template("page.html").render(
        version=version,
        icon=bundle.icon and f"{PATH}/{bundle.icon}",
        script=f"{PATH}/{bundle.script}",
        styles=[f"{PATH}/{name}" for name in bundle.styles],
        preloads=[f"{PATH}/{name}" for name in bundle.preloads],
    )
    return page.encode()


def _takes_gzip(request: Request) -> bool:
    """RFC 9110 section 12.5.3, as far as browsers use it: gzip is named and not ruled out."""
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
