"""The reference: the pass-through that anybody would write first, Starlette in front of httpx, without any feature."""

from __future__ import annotations

import argparse

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_CONNECTIONS = 1000


def create_app(base_url: str) -> Starlette:
    """Passes chat requests to `base_url` and streams the answers back as they come."""
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    client = httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60.0, trust_env=False)

    async def chat(request: Request) -> Response:
        onward = client.build_request(
            "POST", "/chat/completions", content=await request.body(), headers={"content-type": "application/json"}
        )
        answer = await client.send(onward, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            {"content-type": answer.headers["content-type"]},
            background=BackgroundTask(answer.aclose),
        )

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


def main() -> None:
    """Serve on 127.0.0.1 until killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("base_url")
    arguments = parser.parse_args()
    uvicorn.run(
        create_app(arguments.base_url), host="127.0.0.1", port=arguments.port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
