"""Configs with the pointers of what is wrong in them; the parser and the JSON Schema are asked about the same."""

from typing import Any

PG = "postgresql://user:pass@host:5432/db"
LAKE = "s3://bucket/path/"
SEED_URLS = {"source": PG, "target": LAKE, "schedule": "0 9 * * *", "batch_size": 1000, "retry_count": 3}
SEED_OBJECTS = {
    "source": {"type": "postgresql", "host": "source-db.example.com", "database": "source_db"},
    "target": {"type": "s3", "bucket": "data-lake", "prefix": "processed/"},
    "schedule": "0 2 * * *",
    "retries": 3,
}


def job(**changes: Any) -> dict[str, Any]:
    """The seed's config with other values."""
    return {**SEED_URLS, **changes}


def source(**changes: Any) -> dict[str, Any]:
    """The seed's second config with another source."""
    return {**SEED_OBJECTS, "source": {**SEED_OBJECTS["source"], **changes}}  # type: ignore[dict-item]


NOTHING_TO_MOVE: tuple[Any, ...] = (
    {},
    {"source": PG},
    {"target": LAKE},
    {"source": None, "target": LAKE},
    {"source": "", "target": "anything"},
    {"source": {}, "target": LAKE},
    {"source": "new", "target": None},
    {"task": "package.module:function", "source": 5, "target": ["anything"], "mode": "any"},
)

GOOD: tuple[dict[str, Any], ...] = (
    SEED_URLS,
    SEED_OBJECTS,
    job(task=None, mode=None, tables=None, query=None, other={"of": "the user"}),
    job(source="postgres://host/db?sslmode=require&schema=sales"),
    job(source="postgresql+asyncpg://u:p%40ss@[::1]:5432/db"),
    job(source="postgresql://u:p@ss/w:rd@host/db"),
    job(source="postgresql://user:***@host/db"),
    job(source="mysql+pymysql://u:p@host:3306/db?charset=utf8mb4"),
    job(source="mariadb://host/db"),
    job(source="sqlite:///data/in.db", tables="orders"),
    job(source="file:///data/in/*.csv"),
    job(source="s3://bucket/in/${run.date}/*.jsonl", into="orders"),
    job(source="gs://bucket/in/"),
    job(source="abfss://box@account1.dfs.core.windows.net/in/"),
    job(source="https://api.example.com/items?active=1", into="items"),
    job(target="postgresql://u:p@warehouse/dwh?schema=raw", mode="merge", primary_key="id"),
    job(target="duckdb:///data/warehouse.duckdb", mode="merge", primary_key=["a", "b"]),
    job(target="delta+s3://bucket/lake/"),
    job(target={"type": "delta", "url": "file:///data/lake/"}),
    job(target={"type": "local", "path": "/data/${run.year}/${run.month}/", "format": "csv"}),
    source(conn_id="warehouse", host=None, database=None, schema="public", tables=["orders", {"name": "客戶"}]),
    source(tables=[{"name": "a", "cursor": "at", "primary_key": ["id"], "columns": ["id", "at"]}])
    | {"mode": "incremental"},
    source(query="SELECT * FROM a WHERE at < '${run.interval_end}'") | {"into": "a"},
    source(tables=["a"], cursor="at", primary_key="id") | {"mode": "incremental", "schema_contract": "freeze"},
    job(mode="incremental", cursor="updated_at"),
    job(batch_size=1000.0, columns=["a"], exclude="b"),
    job(source={"type": "rest", "url": "https://h/x", "paging": {"type": "page", "first": 0}, "headers": {"a": "b"}}),
    job(source={"type": "files"}) | {"source": {"type": "local", "path": "/data/in"}},
    job(source={"type": "azure", "account": "account1", "container": "box"}),
    job(source={"type": "azure", "conn_id": "blob", "container": "box"}),
    job(source={"type": "azure", "conn_id": "blob", "container": "box", "endpoint_url": "https://host:8443"}),
    job(target={"type": "gcs", "bucket": "lake", "endpoint_url": "http://host/"}),
)

BAD: tuple[tuple[dict[str, Any], str], ...] = (
    (job(source="oracle://host/db"), "/source"),
    (job(source="new"), "/source"),
    (job(source="postgresql:///db"), "/source"),
    (job(source="postgresql://host"), "/source"),
    (job(source="postgresql://host:99999/db"), "/source"),
    (job(source="postgresql://host/db?sslkey=/etc/passwd"), "/source"),
    (job(source="postgresql://host/db\n"), "/source"),
    (job(source="https://user:pass@host/x"), "/source"),
    (job(source="s3://"), "/source"),
    (job(source="file:///data/../etc/passwd"), "/source"),
    (job(source="file:///data/${run.secret}/"), "/source"),
    (job(source=5), "/source"),
    (job(source=["a"]), "/source"),
    (job(target="mysql://host/db"), "/target"),
    (job(target="https://host/x"), "/target"),
    (job(target={"type": "kafka"}), "/target/type"),
    (job(target={"bucket": "a"}), "/target/type"),
    (job(target={"type": ["s3"]}), "/target/type"),
    (job(target={"type": "s3"}), "/target/bucket"),
    (job(target={"type": "s3", "bucket": "lake", "format": "xlsx"}), "/target/format"),
    (job(target={"type": "s3", "bucket": "lake", "prefix": "${run.password}"}), "/target/prefix"),
    (job(target={"type": "s3", "bucket": "lake", "prefix": "${run.date"}), "/target/prefix"),
    (job(target={"type": "s3", "bucket": "lake", "prefix": "../other"}), "/target/prefix"),
    (job(target={"type": "s3", "bucket": "lake", "prefx": "a"}), "/target/prefx"),
    (job(target={"type": "s3", "bucket": "lake", "endpoint_url": "http://u:p@h"}), "/target/endpoint_url"),
    (job(target={"type": "gcs", "bucket": "lake", "endpoint_url": "host"}), "/target/endpoint_url"),
    (job(target={"type": "local", "path": "relative"}), "/target/path"),
    (source(host=None), "/source/host"),
    (source(host="/var/run/postgresql"), "/source/host"),
    (source(port="5432"), "/source/port"),
    (source(port=0), "/source/port"),
    (source(sslmode="yes"), "/source/sslmode"),
    (source(conn_id="a b"), "/source/conn_id"),
    (source(tables=[]), "/source/tables"),
    (source(tables=["a", ""]), "/source/tables/1"),
    (source(tables=["a", {"cursor": "b"}]), "/source/tables/1/name"),
    (source(tables=[{"name": "a", "key": "b"}]), "/source/tables/0/key"),
    (source(tables=5), "/source/tables"),
    (source(tables=["a"], query="SELECT 1"), "/source/query"),
    (source(tables=["a"]) | {"tables": ["b"]}, "/tables"),
    (job(tables=["a"], query="SELECT 1"), "/query"),
    (job(query=" "), "/query"),
    (job(query="SELECT ${record.owner}"), "/query"),
    (job(source="file:///data/in/", tables=["a"]), "/tables"),
    (job(source="https://host/x", query="SELECT 1"), "/query"),
    (job(into="orders"), "/into"),
    (job(query="SELECT 1", into="../up"), "/into"),
    (job(mode="upsert"), "/mode"),
    (job(mode="incremental"), "/cursor"),
    (job(mode="incremental", tables=["a", {"name": "b", "cursor": "at"}]), "/cursor"),
    (job(mode="merge", primary_key="id"), "/mode"),
    (job(mode="merge", target="duckdb:///data/w.duckdb"), "/primary_key"),
    (job(cursor=["a"]), "/cursor"),
    (job(columns=[1]), "/columns/0"),
    (job(batch_size=0), "/batch_size"),
    (job(batch_size="1000"), "/batch_size"),
    (job(batch_size=True), "/batch_size"),
    (job(batch_size=float("inf")), "/batch_size"),
    (job(schema_contract="thaw"), "/schema_contract"),
    (job(source={"type": "rest", "url": "https://h/x", "paging": {}}), "/source/paging/type"),
    (job(source={"type": "rest", "url": "https://h/x", "paging": {"type": "scroll"}}), "/source/paging/type"),
    (job(source={"type": "rest", "url": "https://h/x", "headers": {"a": 1}}), "/source/headers"),
    (job(source={"type": "azure", "container": "box"}), "/source/account"),
)
