"""A record that moves data asks nobody for the credentials of a worker's machine, and no token goes elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.airflow.conftest import uv  # noqa: F401  (fixtures)
from tests.etl.asking import Kit
from tests.etl.conftest import _installed, kit  # noqa: F401  (fixtures)
from tests.etl.lakes import AZURE_ACCOUNT, S3_ACCOUNT, Lake

pytestmark = pytest.mark.airflow

Looked = Callable[..., list[str]]


@pytest.fixture
def looked(kit: Kit, tmp_path: Any) -> Looked:  # noqa: F811
    """Let the kit only look, which asks whatever a run would ask first: what it says of source and target."""

    def look(*, connections: Any = None, **config: Any) -> list[str]:
        question = {
            "config": {"source": f"file://{tmp_path}/in.csv", "target": f"file://{tmp_path}/out/", **config},
            "check": True,
            "folder": str(tmp_path),
            "local_dirs": [str(tmp_path)],
            "connections": connections or {},
        }
        (tmp_path / "in.csv").write_text("id\n1\n")
        return [problem["detail"] for problem in kit.ask(**question)["problems"]]

    return look


METADATA = {
    "IPv4": "http://169.254.169.254",
    "IPv4 as a number": "http://2852039166",
    "IPv4 within IPv6": "http://[::ffff:169.254.169.254]",
    "IPv6": "http://[fe80::1]",
    "AWS over IPv6": "http://[fd00:ec2::254]",
    "Alibaba": "http://100.100.100.200",
}


@pytest.mark.parametrize("url", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize(
    "place",
    [
        lambda url: {"source": {"type": "rest", "url": f"{url}/latest/meta-data"}},
        lambda url: {"source": Lake("s3", url, S3_ACCOUNT).target("lake")},
        lambda url: {"target": Lake("s3", url, S3_ACCOUNT).target("lake")},
        lambda url: {"target": Lake("gcs", url).target("lake")},
        lambda url: {"target": Lake("azure", url, AZURE_ACCOUNT).target("lake")},
        lambda url: {"target": {"type": "delta", "url": "s3://lake/x/", "endpoint_url": url, **S3_ACCOUNT}},
    ],
    ids=["rest", "source of s3", "target of s3", "gcs", "azure", "delta"],
)
def test_no_server_is_asked_for_the_credentials_of_the_machine(
    looked: Looked, place: Callable[[str], dict[str, Any]], url: str
) -> None:
    [told] = looked(**place(url))
    assert told.endswith("is an address of this machine's own network: it is not asked.")


@pytest.mark.parametrize("type_", ["postgresql", "mysql"])
def test_no_database_is_looked_for_there(looked: Looked, type_: str) -> None:
    source = {"type": type_, "host": "169.254.169.254", "port": 80, "database": "x", "user": "u"}
    assert looked(source=source) == ["169.254.169.254 is an address of this machine's own network: it is not asked."]


def test_the_token_of_a_connection_stays_with_its_host(looked: Looked) -> None:
    source = {"type": "rest", "url": "http://127.0.0.1:1/items", "conn_id": "api"}
    connections = {"api": {"host": "https://api.example.com/v1", "password": "token-4711"}}
    told = looked(source=source, connections=connections)
    assert told == ["The Airflow Connection is for api.example.com, and the record names another host."]


def test_the_shared_access_of_a_connection_stays_with_azure(looked: Looked) -> None:
    target = {"type": "azure", "container": "lake", "endpoint_url": "http://127.0.0.1:1", "conn_id": "lake"}
    connections = {"lake": {"login": "account", "extra_dejson": {"sas_token": "sig=4711"}}}
    told = looked(target=target, connections=connections)
    assert told == ["The Airflow Connection says where it may be used: write endpoint_url into its extra."]


def test_the_account_of_a_worker_stays_with_azure(looked: Looked) -> None:
    target = {"type": "azure", "account": "account", "container": "lake", "endpoint_url": "http://127.0.0.1:1"}
    told = looked(target=target)
    assert told == ["A server of another address needs account_key or sas_token: the worker's own is for Azure."]
