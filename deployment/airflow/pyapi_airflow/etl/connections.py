"""Addresses and credentials of sources and targets: an Airflow Connection before what the record itself holds."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from pyapi.etl.jobs import Endpoint
from pyapi_airflow.etl.failures import Refused

Lookup = Callable[[str], Any]
"""Answers the Connection of an id; the tests have no Airflow to ask."""

_EXTRAS = {
    "region_name": "region",
    "endpoint_url": "endpoint_url",
    "aws_session_token": "session_token",
    "sslmode": "sslmode",
    "account_key": "account_key",
    "sas_token": "sas_token",
}


def airflow_connection(conn_id: str) -> Any:
    """The Connection of Airflow. It masks the password in the task's log itself."""
    from airflow.sdk import BaseHook

    return BaseHook.get_connection(conn_id)


def options_of(endpoint: Endpoint, *, lookup: Lookup, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The options of a source or target, what the Connection says before what the record says. Raises Refused."""
    options = dict(endpoint.options)
    if "username" in options:
        options.setdefault("user", options.pop("username"))
    conn_id = endpoint.conn_id
    if conn_id is None:
        return options
    if not any(fnmatchcase(conn_id, pattern) for pattern in allowed):
        raise Refused(f"PYAPI_ETL_CONN_IDS of Airflow's environment does not allow the Connection {conn_id}.")
    try:
        connection = lookup(conn_id)
    except Exception as error:  # noqa: BLE001  (whatever keeps it, the record names one that is not to be had)
        raise Refused(f"There is no Airflow Connection {conn_id} ({type(error).__name__}).") from None
    said = _said_by(connection, endpoint.type)
    _check_where(options, said, connection, endpoint.type)
    return options | said


def _check_where(options: Mapping[str, Any], said: Mapping[str, Any], connection: Any, kind: str) -> None:
    """A token is worth as much to whoever it is sent to: a record may not send that of a Connection elsewhere."""
    if kind == "azure" and "endpoint_url" in options and "endpoint_url" not in said:
        raise Refused("The Airflow Connection says where it may be used: write endpoint_url into its extra.")
    if kind == "rest" and connection.host:
        host = str(connection.host)
        allowed = urlsplit(host if "://" in host else f"https://{host}").hostname
        if urlsplit(options["url"]).hostname != allowed:
            raise Refused(f"The Airflow Connection is for {allowed}, and the record names another host.")


def _said_by(connection: Any, kind: str) -> dict[str, Any]:
    extra: Mapping[str, Any] = connection.extra_dejson or {}
    said = {name: extra.get(key) for key, name in _EXTRAS.items()}
    if kind in {"s3", "delta"}:
        said |= {"access_key_id": connection.login, "secret_access_key": connection.password}
    elif kind == "azure":
        said |= {"account": connection.login or connection.host, "account_key": connection.password}
    elif kind == "rest":
        said = {"token": connection.password, "headers": extra.get("headers")}
    elif kind in {"postgresql", "mysql"}:
        said |= {
            "host": connection.host,
            "port": connection.port,
            "database": connection.schema,
            "user": connection.login,
            "password": connection.password,
        }
    return {name: value for name, value in said.items() if value}
