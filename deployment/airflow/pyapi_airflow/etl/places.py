"""Where files are: a folder of the worker, S3, Google Cloud Storage, Azure. A file appears complete or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from pyapi_airflow.etl.failures import Refused, telling


class Place(Protocol):
    """Paths are relative to the place, with `/` between their parts."""

    def put(self, source: Path, path: str) -> None:
        """Make `path` what `source` is, in one step that nobody sees half done."""

    def write(self, path: str, content: bytes) -> None:
        """The same for a few bytes."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a small file; None when there is none."""

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when there is none."""

    def delete(self, path: str) -> None:
        """Take a file away, if it is there."""

    def files(self) -> tuple[pafs.FileSystem, str]:
        """The same place for Arrow, with the path that it begins at."""

    def describe(self) -> str:
        """A name for people, without credentials."""


class LocalPlace:
    """A folder of the worker, inside of one that Airflow's environment allows."""

    def __init__(self, folder: str, *, allowed: tuple[Path, ...]) -> None:
        self._folder = allowed_path(folder, allowed=allowed)
        self._allowed = allowed

    def put(self, source: Path, path: str) -> None:
        """Copy beside the target folder when that is another file system, then rename."""
        target = self._inside(path)
        with telling(f"Writing {target}", OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Nobody who looks for data takes a `.part` for one. A killed try has left the same, and nothing else.
            part = self._folder / "_pyapi" / f"{quote(path, safe='')}.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(part):
                try:
                    os.link(source, part)
                except OSError:
                    shutil.copyfile(source, part)
                self._rename(part, target)

    def write(self, path: str, content: bytes) -> None:
        """By a rename as well."""
        target = self._inside(path)
        with telling(f"Writing {target}", OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            with _temporary(part):
                part.write_bytes(content)
                self._rename(part, target)

    def read(self, path: str) -> bytes | None:
        """The bytes of a small file."""
        try:
            with telling(f"Reading {path}", PermissionError):
                return self._inside(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def size(self, path: str) -> int | None:
        """Bytes of a file."""
        try:
            with telling(f"Looking at {path}", PermissionError):
                return self._inside(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, path: str) -> None:
        """Take a file away."""
        with telling(f"Deleting {path}", OSError):
            self._inside(path).unlink(missing_ok=True)

    def files(self) -> tuple[pafs.FileSystem, str]:
        """The folder for Arrow."""
        return pafs.LocalFileSystem(), str(self._folder)

    def describe(self) -> str:
        """The folder."""
        return str(self._folder)

    def _inside(self, path: str) -> Path:
        """A link within the folder may lead out of it."""
        return allowed_path(str(self._folder / path), allowed=self._allowed)

    @staticmethod
    def _rename(part: Path, target: Path) -> None:
        # On the disk before it is seen: a machine that loses its power keeps no empty file.
        for path, how in ((part, os.O_RDWR), (None, 0), (target.parent, os.O_RDONLY)):
            if path is None:
                part.replace(target)
                continue
            handle = os.open(path, how)
            os.fsync(handle)
            os.close(handle)


@contextmanager
def _temporary(part: Path) -> Iterator[None]:
    """A file that is there no longer, whatever happens: a disk that is full must not stay full of halves."""
    part.unlink(missing_ok=True)
    try:
        yield
    finally:
        part.unlink(missing_ok=True)


def allowed_path(path: str, *, allowed: tuple[Path, ...]) -> Path:
    """The path without links. Raises Refused outside of the folders of PYAPI_ETL_LOCAL_DIRS."""
    resolved = Path(path).resolve()
    if not any(resolved == folder or folder in resolved.parents for folder in (item.resolve() for item in allowed)):
        raise Refused("PYAPI_ETL_LOCAL_DIRS of Airflow's environment does not allow this path of the worker.")
    return resolved


class S3Place:
    """A prefix in a bucket. boto3 completes an upload of several parts as its last step, or aborts it."""

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._options = options

    def put(self, source: Path, path: str) -> None:
        """One PUT, or parts that become a file when the last of them is there."""
        from boto3.exceptions import S3UploadFailedError

        with telling(f"Writing {self.describe()}{path}", *self._errors):
            try:
                self._client.upload_file(str(source), self._bucket, self._key(path))
            except S3UploadFailedError as error:
                # It names a path of this worker, and the server's answer after it.
                raise error.__context__ or error from None

    def write(self, path: str, content: bytes) -> None:
        """One PUT."""
        with telling(f"Writing {self.describe()}{path}", *self._errors):
            self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=content)

    def read(self, path: str) -> bytes | None:
        """The bytes of an object."""
        with telling(f"Reading {self.describe()}{path}", *self._errors):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(path))
            except self._client.exceptions.NoSuchKey:
                return None
            content: bytes = answer["Body"].read()
            return content

    def size(self, path: str) -> int | None:
        """Bytes of an object."""
        with telling(f"Looking at {self.describe()}{path}", *self._errors):
            try:
                return int(self._client.head_object(Bucket=self._bucket, Key=self._key(path))["ContentLength"])
            except self._errors[0] as error:
                if getattr(error, "response", {}).get("Error", {}).get("Code") in {"404", "NoSuchKey"}:
                    return None
                raise

    def delete(self, path: str) -> None:
        """Take an object away."""
        with telling(f"Deleting {self.describe()}{path}", *self._errors):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(path))

    def files(self) -> tuple[pafs.FileSystem, str]:
        """For reading only: a stream of Arrow's completes its upload even when it is thrown away half written."""
        endpoint = str(self._options.get("endpoint_url") or "")
        scheme, _, host = endpoint.rpartition("://")
        system = pafs.S3FileSystem(
            access_key=self._options.get("access_key_id"),
            secret_key=self._options.get("secret_access_key"),
            session_token=self._options.get("session_token"),
            region=self._options.get("region") or ("us-east-1" if endpoint else None),
            endpoint_override=host.rstrip("/") or None,
            scheme=scheme or None,
            connect_timeout=10,
            request_timeout=60,
        )
        return system, f"{self._bucket}/{self._prefix}".rstrip("/")

    def describe(self) -> str:
        """The address."""
        return f"s3://{self._bucket}/{self._prefix}/" if self._prefix else f"s3://{self._bucket}/"

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    @cached_property
    def _errors(self) -> tuple[type[Exception], ...]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        return ClientError, BotoCoreError, Boto3Error

    @cached_property
    def _client(self) -> Any:
        return s3_client(self._options)


def s3_client(options: Mapping[str, Any]) -> Any:
    """A client with the credentials of the options; without any, boto3 looks for those of the worker."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=options.get("endpoint_url"),
        region_name=options.get("region") or ("us-east-1" if options.get("endpoint_url") else None),
        aws_access_key_id=options.get("access_key_id"),
        aws_secret_access_key=options.get("secret_access_key"),
        aws_session_token=options.get("session_token"),
        config=Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"}),
    )


class GcsPlace:
    """A prefix in a bucket of Google Cloud Storage: written under a name that nobody looks for, then copied there.

    An object appears when it is complete; but a stream of Arrow's completes it even when it is thrown away.
    """

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self._name = f"gs://{bucket}/{prefix.strip('/')}".rstrip("/") + "/"
        self._base = f"{bucket}/{prefix}".strip("/")
        self._endpoint = str(options.get("endpoint_url") or "").rstrip("/")

    def put(self, source: Path, path: str) -> None:
        """Upload, then move: a copy within the service, which is one step of it."""
        # The same for every try, so that a killed one leaves no more than this.
        part = f"{self._base}/_pyapi/{quote(path, safe='')}.part"
        with telling(f"Writing {self._name}{path}", OSError, pa.ArrowException):
            pafs.copy_files(str(source), part, pafs.LocalFileSystem(), self._system)
            self._system.move(part, f"{self._base}/{path}")

    def write(self, path: str, content: bytes) -> None:
        """A few bytes are one request."""
        with (
            telling(f"Writing {self._name}{path}", OSError, pa.ArrowException),
            self._system.open_output_stream(f"{self._base}/{path}") as stream,
        ):
            stream.write(content)

    def read(self, path: str) -> bytes | None:
        """The bytes of a small object."""
        if self.size(path) is None:
            return None
        with (
            telling(f"Reading {self._name}{path}", OSError, pa.ArrowException),
            self._system.open_input_stream(f"{self._base}/{path}") as stream,
        ):
            content: bytes = stream.read()
            return content

    def size(self, path: str) -> int | None:
        """Bytes of an object."""
        with telling(f"Looking at {self._name}{path}", OSError, pa.ArrowException):
            found = self._system.get_file_info(f"{self._base}/{path}")
            return int(found.size) if found.is_file else None

    def delete(self, path: str) -> None:
        """Take an object away."""
        if self.size(path) is not None:
            with telling(f"Deleting {self._name}{path}", OSError, pa.ArrowException):
                self._system.delete_file(f"{self._base}/{path}")

    def files(self) -> tuple[pafs.FileSystem, str]:
        """The same, for reading."""
        return self._system, self._base

    def describe(self) -> str:
        """The address."""
        return self._name

    @cached_property
    def _system(self) -> pafs.FileSystem:
        patience = timedelta(seconds=60)
        if not self._endpoint:
            return pafs.GcsFileSystem(retry_time_limit=patience)
        scheme, _, host = self._endpoint.rpartition("://")
        # Google's tokens are for Google: a record that names another server must not be given one.
        return pafs.GcsFileSystem(
            anonymous=True, scheme=scheme, endpoint_override=host, project_id="pyapi", retry_time_limit=patience
        )


def open_place(kind: str, options: Mapping[str, Any], path: str, *, allowed: tuple[Path, ...]) -> Place:
    """The place that the options name, at `path` in it."""
    if kind == "local":
        return LocalPlace(path, allowed=allowed)
    if kind == "s3":
        return S3Place(options["bucket"], path, options)
    if kind == "gcs":
        return GcsPlace(options["bucket"], path, options)
    from pyapi_airflow.etl.azure import AzurePlace

    return AzurePlace(options["container"], path, options)


def path_of(kind: str, options: Mapping[str, Any]) -> str:
    """The path in a place as the record has it, templates included."""
    return str(options.get("path" if kind == "local" else "prefix") or "")
