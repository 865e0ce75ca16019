"""The editor's page at `/admin`, and the way there from the root of the site."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from balancer.web.bundle import Bundle
from balancer.web.pages import Page, Words

PATH = "/admin"
ENTRY = "editor"

_WORDS = Words("LLM balancer", "balancer", "editor", "/admin/api")


def admin_pages(bundle: Bundle | None, version: str) -> list[BaseRoute]:
    """Everything at `/admin` but the API. `bundle` None: the editor was not built; the page says how to do it."""
    return [*Page(PATH, bundle, version, _WORDS).routes(), Route("/", _show_the_way)]


async def _show_the_way(request: Request) -> Response:
    """A person who opens the address wants the editor; a program gets what it gets for any path there is not."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse(PATH, 307, {"cache-control": "no-store", "vary": "accept"})
