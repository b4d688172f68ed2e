"""Azure as a place for files. A module of its own: its libraries are an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import ContainerClient

from pyapi_airflow.etl.failures import Refused, telling

# A block that fails is sent again alone.
_BLOCK_BYTES = 8 * 2**20


class AzurePlace:
    """A prefix in a container. A large blob is uploaded as blocks, and appears with their list, as the last step.

    Arrow only reads: it begins to write with an empty blob, and cannot move one in an account without folders.
    """

    def __init__(self, container: str, prefix: str, options: Mapping[str, Any]) -> None:
        self._prefix = prefix.strip("/")
        self._container = container
        self._options = options
        self._account = str(options.get("account") or "")
        self._endpoint = str(options.get("endpoint_url") or "").rstrip("/")
        if not self._account:
            raise Refused("The record names no storage account, and its Airflow Connection names none either.")
        self._client = ContainerClient(
            f"{self._endpoint}/{self._account}" if self._endpoint else f"https://{self._account}.blob.core.windows.net",
            container,
            credential=self._credential(),
            connection_timeout=10,
            read_timeout=60,
            # By itself it asks for a minute and a half.
            initial_backoff=1,
            increment_base=2,
            retry_total=4,
            max_single_put_size=_BLOCK_BYTES,
            max_block_size=_BLOCK_BYTES,
        )

    def put(self, source: Path, path: str) -> None:
        """One request, or blocks that become a blob when all are there."""
        with telling(f"Writing {self.describe()}{path}", AzureError), source.open("rb") as content:
            self._client.upload_blob(self._key(path), content, length=source.stat().st_size, overwrite=True)

    def write(self, path: str, content: bytes) -> None:
        """One request."""
        with telling(f"Writing {self.describe()}{path}", AzureError):
            self._client.upload_blob(self._key(path), content, overwrite=True)

    def read(self, path: str) -> bytes | None:
        """The bytes of a small blob."""
        with telling(f"Reading {self.describe()}{path}", AzureError):
            try:
                content: bytes = self._client.download_blob(self._key(path)).readall()
            except ResourceNotFoundError as error:
                _check_that_only_a_blob_is_missing(error)
                return None
            return content

    def size(self, path: str) -> int | None:
        """Bytes of a blob."""
        with telling(f"Looking at {self.describe()}{path}", AzureError):
            try:
                return int(self._client.get_blob_client(self._key(path)).get_blob_properties().size)
            except ResourceNotFoundError as error:
                _check_that_only_a_blob_is_missing(error)
                return None

    def delete(self, path: str) -> None:
        """Take a blob away."""
        with telling(f"Deleting {self.describe()}{path}", AzureError):
            try:
                self._client.delete_blob(self._key(path))
            except ResourceNotFoundError as error:
                _check_that_only_a_blob_is_missing(error)

    def files(self) -> tuple[pafs.FileSystem, str]:
        """For reading only."""
        where: dict[str, str] = {}
        if self._endpoint:
            parts = urlsplit(self._endpoint)
            for service in ("blob", "dfs"):
                where |= {f"{service}_storage_authority": parts.netloc, f"{service}_storage_scheme": parts.scheme}
        key, token = self._options.get("account_key"), self._options.get("sas_token")
        system = pafs.AzureFileSystem(self._account, account_key=key, sas_token=None if key else token, **where)
        return system, f"{self._container}/{self._prefix}".rstrip("/")

    def describe(self) -> str:
        """The address."""
        return f"abfss://{self._container}@{self._account}/{self._prefix}".rstrip("/") + "/"

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _credential(self) -> Any:
        if key := self._options.get("account_key"):
            return {"account_name": self._account, "account_key": key}
        if token := self._options.get("sas_token"):
            return AzureSasCredential(token)
        if self._endpoint:
            raise Refused("A server of another address needs account_key or sas_token: the worker's own is for Azure.")
        return DefaultAzureCredential()


def _check_that_only_a_blob_is_missing(error: ResourceNotFoundError) -> None:
    """Raises the error when it is the container that is not there."""
    if getattr(error, "error_code", None) not in {"BlobNotFound", None}:
        raise error
