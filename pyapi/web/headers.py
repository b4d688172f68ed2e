"""Headers that say more about an answer: entity tags (RFC 9110) and links to other pages (RFC 8288)."""

import re
from functools import lru_cache
from urllib.parse import urlencode

from fastapi import Request
from starlette.datastructures import QueryParams

from pyapi.exceptions import BadRequest
from pyapi.schemas.data_schemas import DataList

_SOMEWHERE = -1
_PLACES = frozenset({"skip", "cursor"})
_LONGEST_REMEMBERED = 512
_KEY = re.compile(r"[!-~]{1,255}")
_TAG = re.compile(r'"rev-([1-9][0-9]{0,9})"')

IF_MATCH = {
    "parameters": [
        {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "description": "The ETag you read: the change happens only if nobody else changed the record since (412).",
            "schema": {"type": "string", "pattern": r'^(\*|"rev-[1-9][0-9]{0,9}")$'},
            "example": '"rev-1"',
        }
    ]
}
"""For the `openapi_extra` of routes that change a record."""


ACCEPT_LANGUAGE = {
    "parameters": [
        {
            "name": "Accept-Language",
            "in": "header",
            "required": False,
            "description": "Language of `schedule_description` and notes: `en`, `zh-TW` or `zh-CN`.",
            "schema": {"type": "string"},
            "example": "zh-TW",
        }
    ]
}
"""For the `openapi_extra` of routes that put a schedule into words."""


IDEMPOTENCY_KEY = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Any text of yours; the same key starts one run, however often it is sent.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
        }
    ]
}
"""For the `openapi_extra` of routes that can be repeated safely."""


IF_NONE_MATCH = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "The ETag of what you have: 304 when it is still the same.",
            "schema": {"type": "string"},
            "example": '"0123abcd"',
        }
    ]
}
"""For the `openapi_extra` of routes whose answer changes rarely."""


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names the answer with this entity tag (RFC 9110, 13.1.2: weak tags are as good)."""
    known = [part.strip().removeprefix("W/") for part in ",".join(request.headers.getlist("if-none-match")).split(",")]
    return tag in known or "*" in known


async def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key`; None without one. Raises BadRequest for one that nobody would mean."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("Send one Idempotency-Key of 1 to 255 visible ASCII characters.")
    return keys[0]


def entity_tag(revision: int) -> str:
    """A strong entity tag: the revision of the record."""
    return f'"rev-{revision}"'


async def expected_revision(request: Request) -> int | None:
    """The revision that `If-Match` asks for; None without the header, and for `*`, which any record meets.

    A tag that is none of ours is 0, which no record has: whether the precondition holds is asked last, after the record
    was found and the caller may change it (RFC 9110, 13.2.1). Raises BadRequest for more than one tag.
    """
    wanted = ",".join(request.headers.getlist("if-match")).strip()
    if "," in wanted:
        raise BadRequest("Send one entity tag in If-Match, or '*'.")
    if wanted == "*" or "if-match" not in request.headers:
        return None
    tag = _TAG.fullmatch(wanted)
    return int(tag[1]) if tag else 0


def page_links(request: Request, page: DataList) -> str:
    """The `Link` header of a page: first, prev, next, last, each as far as it is known. Targets are relative."""
    skips = {"first": 0}
    if page.skip > 0:
        skips["prev"] = max(0, page.skip - page.limit)
    if page.next_cursor is not None:
        skips["next"] = page.skip + page.limit
    if page.total is not None and page.total_is_exact:
        skips["last"] = max(0, (page.total - 1) // page.limit * page.limit)
    asked: bytes = request.scope["query_string"]
    # A client writes it: what is remembered must not become megabytes.
    around = _around_place if len(asked) <= _LONGEST_REMEMBERED else _around_place.__wrapped__
    before, after = around(asked, page.limit)
    queries = {relation: f"{before}skip={skip}{after}" for relation, skip in skips.items()}
    if "cursor" in request.query_params:
        queries = {"first": queries["first"]}
        if page.next_cursor is not None:
            kept = {name: value for name, value in request.query_params.items() if name not in _PLACES}
            queries["next"] = urlencode(kept | {"cursor": page.next_cursor})
    path = request.scope["path"]
    return ", ".join(f'<{path}?{query}>; rel="{relation}"' for relation, query in queries.items())


# Encoding takes longer than all the rest, and the same lists are asked for again.
@lru_cache(256)
def _around_place(query: bytes, limit: int) -> tuple[str, str]:
    """The query of another page of the same list: what stands before `skip=...`, and behind it."""
    kept = {name: value for name, value in QueryParams(query).items() if name not in _PLACES}
    before, after = urlencode(kept | {"skip": str(_SOMEWHERE), "limit": str(limit)}).split(f"skip={_SOMEWHERE}")
    return before, after
