"""What is in S3, Google Cloud Storage and Azure, as others see it: boto3, plain HTTP, and Azure's own library."""

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import boto3
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

Objects = dict[str, Callable[[], bytes]]
"""Names of objects, and how to read each. One that is there no longer is a FileNotFoundError."""


def s3_client(lake: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=lake["url"],
        region_name="us-east-1",
        aws_access_key_id=lake["access_key_id"],
        aws_secret_access_key=lake["secret_access_key"],
    )


def make_bucket(lake: dict[str, str], bucket: str) -> None:
    match lake["type"]:
        case "s3":
            s3_client(lake).create_bucket(Bucket=bucket)
        case "gcs":
            requests.post(f"{lake['url']}/storage/v1/b?project=pyapi", json={"name": bucket}).raise_for_status()
        case _:
            _container(lake, bucket).create_container()


def objects(lake: dict[str, str], bucket: str, prefix: str) -> Objects:
    return {"s3": _s3_objects, "gcs": _gcs_objects, "azure": _azure_objects}[lake["type"]](lake, bucket, prefix)


def _s3_objects(lake: dict[str, str], bucket: str, prefix: str) -> Objects:
    client = s3_client(lake)

    def read(key: str) -> bytes:
        try:
            content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            raise FileNotFoundError(key) from None
        return content

    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"]: partial(read, item["Key"]) for page in pages for item in page.get("Contents", [])}


def _gcs_objects(lake: dict[str, str], bucket: str, prefix: str) -> Objects:
    url = f"{lake['url']}/storage/v1/b/{bucket}/o"

    def read(name: str) -> bytes:
        answer = requests.get(f"{url}/{quote(name, safe='')}", params={"alt": "media"})
        if answer.status_code == 404:
            raise FileNotFoundError(name)
        answer.raise_for_status()
        return answer.content

    found = requests.get(url, params={"prefix": prefix})
    found.raise_for_status()
    return {item["name"]: partial(read, item["name"]) for item in found.json().get("items", [])}


def _azure_objects(lake: dict[str, str], bucket: str, prefix: str) -> Objects:
    client = _container(lake, bucket)

    def read(name: str) -> bytes:
        try:
            content: bytes = client.download_blob(name).readall()
        except ResourceNotFoundError:
            raise FileNotFoundError(name) from None
        return content

    return {name: partial(read, name) for name in client.list_blob_names(name_starts_with=prefix)}


def _container(lake: dict[str, str], bucket: str) -> ContainerClient:
    account = {"account_name": lake["account"], "account_key": lake["account_key"]}
    return ContainerClient(f"{lake['url']}/{lake['account']}", bucket, credential=account)
