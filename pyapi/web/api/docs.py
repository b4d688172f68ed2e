"""Answers for the two pages that show the API to people, and for the files that these pages load."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.staticfiles import NotModifiedResponse

if TYPE_CHECKING:
    import os

    from starlette.types import Scope

STATIC: Final = Path(__file__).resolve().parents[2] / "static"

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
)
_PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_SWAGGER_UI_HEADERS: Final = {**_PAGE_HEADERS, "Content-Security-Policy": _POLICY + "style-src 'self'"}
# ReDoc fills an empty style element by script and writes one that is always the same: these two, by their hashes, and
# no other. It searches in a worker that it makes from a blob.
_REDOC_STYLES: Final = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
_REDOC_HEADERS: Final = {
    **_PAGE_HEADERS,
    "Content-Security-Policy": _POLICY + f"style-src 'self' {_REDOC_STYLES}; worker-src blob:",
}
# Spelled out, because the table of the operating system may call a script text/plain, which nosniff then refuses.
_MEDIA_TYPES: Final = {
    "": "text/plain",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}

router = APIRouter()


class Assets(StaticFiles):
    """Scripts, styles, the icon and the licences; not the pages, which belong to their routes and their headers."""

    def lookup_path(self, path: str) -> tuple[str, "os.stat_result | None"]:
        """Find only what has a media type here; everything else does not exist."""
        return super().lookup_path(path) if Path(path).suffix in _MEDIA_TYPES else ("", None)

    def file_response(
        self,
        full_path: "str | os.PathLike[str]",
        stat_result: "os.stat_result",
        scope: "Scope",
        status_code: int = 200,
    ) -> Response:
        """Let browsers keep a file for an hour, then ask with its ETag whether it is still the same."""
        response = FileResponse(
            full_path,
            status_code=status_code,
            headers={"Cache-Control": "public, max-age=3600"},
            media_type=_MEDIA_TYPES[Path(full_path).suffix],
            stat_result=stat_result,
        )
        unchanged = self.is_not_modified(response.headers, Headers(scope=scope))
        return NotModifiedResponse(response.headers) if unchanged else response


_ASSETS: Final = Assets(directory=STATIC)


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def swagger_ui() -> FileResponse:
    """Show the API as a page to try it on (Swagger UI)."""
    return FileResponse(STATIC / "docs.html", headers=_SWAGGER_UI_HEADERS)


@router.api_route("/redoc", methods=["GET", "HEAD"], include_in_schema=False)
async def redoc() -> FileResponse:
    """Show the API as a page to read (ReDoc)."""
    return FileResponse(STATIC / "redoc.html", headers=_REDOC_HEADERS)


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def static(path: str, request: Request) -> Response:
    """Serve what the pages load; a route and not a mount, because a mount gets lost behind a proxy prefix."""
    return await _ASSETS.get_response(path, request.scope)
