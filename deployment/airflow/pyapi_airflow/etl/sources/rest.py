"""REST APIs that answer JSON, page after page, with dlt's client."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from pyapi.etl.jobs import Job
from pyapi.etl.templates import fill
from pyapi_airflow.etl.addresses import check_host
from pyapi_airflow.etl.failures import MoveFailed, Refused, shortly
from pyapi_airflow.etl.runs import Run
from pyapi_airflow.etl.sources.base import Found

_SECONDS = 60
_RETRY = Retry(total=5, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET",))


class RestSource:
    """One list of one API. Its columns are what its rows say; objects within a row stay JSON."""

    def __init__(self, job: Job, options: Mapping[str, Any], run: Run) -> None:
        self._job = job
        self._options = options
        self._url = fill(options["url"], run.values)
        self._params = {name: fill(text, run.values) for name, text in (options.get("params") or {}).items()}

    def tables(self) -> list[Found]:
        """One table, whose columns nobody knows before. Asks whether the host is one that may be asked."""
        _Session(self._url).check(self._url)
        return [Found(self._job.defaults, None)]

    def rows(self, found: Found, *, since: str | None) -> Iterator[list[dict[str, Any]]]:
        """Pages. An API is asked for all: each has its own way to ask for what is new."""
        del since
        from dlt.sources.helpers.rest_client import RESTClient

        table = found.table
        client = RESTClient(
            base_url=self._url,
            headers=dict(self._options.get("headers") or {}) | self._authorization(),
            session=_Session(self._url),
            paginator=_paginator(self._options.get("paging")),
            data_selector=self._options.get("data_path"),
        )
        keep = (
            {*table.columns, *table.primary_key, *([table.cursor] if table.cursor else [])} if table.columns else None
        )
        try:
            for page in client.paginate("", params=dict(self._params)):
                rows = [row if isinstance(row, dict) else {"value": row} for row in page]
                yield [
                    {
                        name: item
                        for name, item in row.items()
                        if (keep is None or name in keep) and name not in table.exclude
                    }
                    for row in rows
                ]
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "?"
            raise MoveFailed(f"{_shown(self._url)} answers {status}.") from None
        except (requests.RequestException, ValueError) as error:
            raise MoveFailed(f"{_shown(self._url)} cannot be read: {type(error).__name__}.") from None

    def close(self) -> None:
        """Nothing stays open."""

    def _authorization(self) -> dict[str, str]:
        token = self._options.get("token")
        return {"Authorization": f"Bearer {token}"} if token else {}


class _Session(requests.Session):
    """Asks one host, and follows nobody elsewhere: an answer could send the token there."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._host = urlsplit(url).netloc
        self.trust_env = False
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=_RETRY))

    def check(self, url: str) -> None:
        """Raises Refused for another host, or one whose address only the machine itself should ask."""
        parts = urlsplit(url)
        if parts.netloc != self._host:
            raise Refused(f"{_shown(url)} is another host than the record names: the next page is not asked for there.")
        try:
            check_host(parts.hostname or "", shown=_shown(url))
        except OSError as error:
            raise MoveFailed(f"{_shown(url)} has no address: {shortly(error)}") from None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """One request, no redirects."""
        self.check(request.url or "")
        response = super().send(request, **{**options, "allow_redirects": False, "timeout": _SECONDS})
        if response.is_redirect:
            raise Refused(f"{_shown(request.url or '')} sends on to elsewhere: write the address that answers.")
        return response


def _paginator(paging: Mapping[str, Any] | None) -> Any:
    from dlt.sources.helpers.rest_client import paginators

    if paging is None:
        return paginators.SinglePagePaginator()
    param, path = paging.get("param"), paging.get("path")
    match paging["type"]:
        case "page":
            return paginators.PageNumberPaginator(
                base_page=1 if paging.get("first") is None else int(paging["first"]),
                page_param=param or "page",
                total_path=None,
                stop_after_empty_page=True,
            )
        case "offset":
            return paginators.OffsetPaginator(
                limit=int(paging.get("size") or 100),
                offset_param=param or "offset",
                limit_param=paging.get("size_param") or "limit",
                total_path=None,
                stop_after_empty_page=True,
            )
        case "cursor":
            return paginators.JSONResponseCursorPaginator(cursor_path=path or "next", cursor_param=param or "cursor")
        case "next_url":
            return paginators.JSONLinkPaginator(next_url_path=path or "next")
        case _:
            return paginators.HeaderLinkPaginator()


def _shown(url: str) -> str:
    """Without its query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
