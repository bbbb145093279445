"""Pages for people, which load nothing from other hosts."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

from fastapi import APIRouter
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse

from .settings import settings

router = APIRouter(include_in_schema=False)
ASSETS = "static-offline-docs"  # where fastapi-offline serves its files


@router.get("/")
async def index() -> RedirectResponse:
    """Lead visitors to the documentation."""
    return RedirectResponse("docs")


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """Shows the endpoints, and sends requests to them."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=escape(settings.service_name),
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
    return _protected(page)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """Shows the endpoints, for reading."""
    page = get_redoc_html(
        openapi_url="openapi.json",
        title=escape(settings.service_name),
        redoc_js_url=f"{ASSETS}/redoc.standalone.js",
        redoc_favicon_url=f"{ASSETS}/favicon.png",
        with_google_fonts=False,
    )
    return _protected(page)


def _protected(page: HTMLResponse) -> HTMLResponse:
    """Let a page run its own scripts alone. Both tools write styles into the page."""
    scripts = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    hashes = " ".join(
        f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in scripts
    )
    page.headers["Content-Security-Policy"] = (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
        "style-src 'self' 'unsafe-inline'; worker-src blob:; "
        f"script-src 'self' {hashes}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page
