"""The contract for readers and tools: /asyncapi.json, /parley.d.ts, /docs/events (wire contract, section 7)."""

import orjson
from aiohttp import web

from server.asyncapi import asyncapi_document
from server.catalogue import read_catalogue
from server.http.pages import security_headers
from server.reference_page import reference_page
from server.typescript import typescript_declarations

_CACHING = "public, max-age=300"
"""They change with the server's version only."""


def setup_docs(app: web.Application, *, public: bool) -> None:
    """Add the three documents, written once here; unless they are public, none of them exists."""
    if not public:
        return
    catalogue = read_catalogue()
    documents = {
        "/asyncapi.json": (orjson.dumps(asyncapi_document(catalogue)), "application/json"),
        "/parley.d.ts": (typescript_declarations(catalogue).encode(), "text/plain; charset=utf-8"),
        "/docs/events": (reference_page(catalogue).encode(), "text/html; charset=utf-8"),
    }

    async def document(request: web.Request) -> web.Response:
        """One of them, to anybody: a tool on another origin may read it too."""
        body, content_type = documents[request.path]
        headers = security_headers(request.host) | {
            "Content-Type": content_type,
            "Cache-Control": _CACHING,
            "Access-Control-Allow-Origin": "*",
        }
        return web.Response(body=body, headers=headers)

    for path in documents:
        app.router.add_get(path, document)
