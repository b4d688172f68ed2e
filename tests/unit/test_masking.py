import copy
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyapi.utils import masking
from pyapi.utils.masking import CUT, JSON, MASK, is_sensitive_key, mask_secrets, mask_text, restore_secrets

# --- Names of keys ----------------------------------------------------------------------------------------------------

SENSITIVE_KEYS = """
    access_key access_token api_key apikey auth_header authorization bearer connection_string dsn passphrase passwd
    password private_key proxy proxy_password proxies secret service_account service_key token keyfile_dict webhook_url
    pwd credential account_key sas
    PASSWORD db_password DB_PASSWORD sourcePassword password2 my-password-1 aws_secret_access_key client_secret
    privateKey private-key PrivateKey api-key apiKey API_KEY X-API-Key accountKey AccountKey connectionString webhookUrl
    refresh_token max_tokens tokenizer use_proxy http_proxy serviceAccount credentials pass_word keyfile-dict
    db_pwd dbPwd PWD db.pwd pwd1 SASToken sas_url sasUrl blob-sas DSN sentry_dsn sentryDsn
    spring.datasource.password
""".split()
ORDINARY_KEYS = """
    host port database schedule batch_size retry_count name path key keys primary_key partition_key user username login
    author authors keyword monkey compass bypass salt saskatoon sasquatch disaster adsnetwork ldsname handsnap upward
    pass passenger endpoint bucket region url format 密碼欄位 a 1 - _
""".split()


@pytest.mark.parametrize("key", [*SENSITIVE_KEYS, "Access Token", "Account Key", " password ", "connection string"])
def test_a_credential_is_known_by_the_name_of_its_key(key: str) -> None:
    assert is_sensitive_key(key)


@pytest.mark.parametrize("key", [*ORDINARY_KEYS, "", " ", "é" * 300, "x" * 100_000])
def test_short_words_do_not_match_inside_other_words(key: str) -> None:
    assert not is_sensitive_key(key)


def test_the_cache_keeps_no_long_keys() -> None:
    before = masking._is_sensitive.cache_info().currsize
    assert is_sensitive_key("x" * 1_000_000 + "password")
    assert masking._is_sensitive.cache_info().currsize == before


# --- Texts ------------------------------------------------------------------------------------------------------------

WITHOUT_SECRET = r"""
https://host:8080/p@x
https://host/p@x
https://host:8080/@scope/package
https://host:8080/
https://host:8080
http://localhost:3000/a:b@c
http://127.0.0.1:8080/metrics?user=me@corp.com
http://[::1]:8080/p@x
http://[2001:db8::1]/p@x
http://[2001:db8::1]:443/index.html#a@b
postgresql://user@host/db
postgresql://user@host:5432/db
postgresql://user@[::1]:5432/db
postgresql://host/db
postgresql://host:5432/db
postgresql:///db
postgresql:///db?host=/var/run/postgresql
postgresql://host:5432/db?application_name=me@corp
postgresql://h1:5432,h2:5433/db?target_session_attrs=read-write
postgresql+asyncpg://me@corp.com@host:5432/db
jdbc:postgresql://host:5432/db?user=me&ssl=true
jdbc:mysql://h1:3306,h2:3306/db?useSSL=false
jdbc:sqlserver://host:1433;databaseName=db;user=me@corp;encrypt=true
jdbc:sqlserver://host\instance:1433;databaseName=db;user=me@corp
jdbc:oracle:thin:@//host:1521/service
jdbc:oracle:thin:@host:1521:sid
jdbc:sqlite:/tmp/a@b.db
mysql://host:3306/db?user=me@corp
mongodb://h1:27017,h2:27017,h3:27017/db?replicaSet=rs0&appName=me@corp
mongodb+srv://cluster0.example.net/db
redis://host:6379/0
redis://cache:6379
rediss://[::1]:6380/1
redis://user:@host:6379/0
amqp://guest@host:5672/vhost
s3://bucket/path/
s3://bucket/path/a@b:c/file.parquet
s3a://bucket/key=value/date=2026-01-01/part-0.parquet
gs://bucket/object@v1
hdfs://namenode:8020/user/etl/in@out
abfss://container@account.dfs.core.windows.net/path/a:b@c
wasbs://container@account.blob.core.windows.net/x
file:///C:/Users/me@corp/data.csv
file:///var/data/a:b@c.csv
sqlite:////var/lib/data/a@b.db
sftp://host:22/in/picture@2x.png
sftp://me@host:22/in/picture@2x.png
ftp://host:21/a@b.csv
ssh://git@github.com:22/org/repo.git
ssh://git@github.com/org/repo.git
git+ssh://git@host:22/org/repo@v1.0
git+https://host:8443/org/repo.git@v1.2#egg=package
git@github.com:a/b
git@gitlab.corp:2222/group/project.git
oci://registry:5000/repo:tag@sha256:0123456789abcdef
docker://localhost:5000/image@sha256:0123456789abcdef
ghcr.io/org/image:1.2@sha256:0123456789abcdef
mailto:me@corp.com
mailto:me@corp.com?subject=done&cc=you@corp.com
xmpp:me@corp.com/phone
sip:me@corp.com:5060
tel:+886-2-1234-5678
urn:isbn:0451450523
data:text/plain;base64,SGVsbG8=
arn:aws:s3:::bucket/key@v1
arn:aws:iam::123456789012:role/etl@prod
12:30 @ office
12:30@office
meet at 9:00 @ room 3, mail me@corp.com
me@corp.com
me@corp.com, you@corp.com; them@corp.com
C:\data\in@out\file:stream.csv
\\server\share\a@b.csv
D:/data/a:b@c
/var/data/a=b/c@d
0 9 * * *
@daily
@every 5m
2026-01-31T09:00:00+08:00
Asia/Taipei
a == b and token == other
WHERE a.id = b.id AND a.token = b.token
UPDATE t SET password = :password WHERE id = :id
SELECT * FROM t WHERE token = ? AND user = 'me'
INSERT INTO t (token) VALUES (%(token)s)
SELECT token FROM t WHERE token IS NOT NULL AND token <> ''
SELECT "password" AS p FROM users u WHERE u.secret_id = s.secret_id
connect(user=user, token=self.token)
use_proxy=true
?token=&user=me
password=''
password=""
host=h user=u password= 
{"password": null, "use_proxy": true, "token": ""}
{'proxy': None, 'url': 'https://host:8080/p@x'}
{"url":"http://host:8080","mail":"me@corp.com"}
["http://host:8080","me@corp.com"]
('http://host:8080','me@corp.com')
<http://host:8080>, me@corp.com
see (http://host:8080) or mail me@corp.com
see http://host:8080, or mail me@corp.com
see http://host:8080. Mail me@corp.com
see http://host: and mail me@corp.com
see https://host:port/path, or mail me@corp.com
https://host:{port}/p@x
https://{{ host }}:{{ port }}/p@x
postgresql://{{ user }}@{{ host }}/db
https://proxy:8080/?next=https://host:8080/p@x
https://web.archive.org/web/2020/https://host:8080/p@x
https://www.google.com/maps/@25.03,121.56,15z
https://medium.com/@user/story-1
https://host/search?q=a:b@c&sort=-created
https://host:abc/path
主機在 https://host:8080，請聯絡 me@corp.com
每日凌晨 2 點（12:30 @ 辦公室）同步資料
資料來源：postgresql://user@host/db；目標：s3://bucket/路徑/
密碼請洽管理員
「https://host:8080」請洽 me@corp.com
bearer of bad news, basic understanding
Basic internationalization, basic authentication
Bearer short
the token is in the vault
password: ask the operators
a=b&c=d
key=value
primary_key=id
--conf spark.executor.memory=4g --conf spark.user=me@corp
x=1;y=2;z=me@corp
***
…
""".strip("\n").split("\n")

# Each secret holds only the words Qz7 and x9W and what is between them, so that a head, a tail and a middle that leak
# are all found.
WITH_SECRET = r"""
postgresql://user:Qz7x9W@host:5432/db
postgresql://user:Qz7x9W@host
postgresql://user:Qz7x9W@[::1]:5432/db
postgresql+asyncpg://user:Qz7x9W@host/db
jdbc:postgresql://user:Qz7x9W@host:5432/db
redis://:Qz7x9W@host
redis://:Qz7x9W@host:6379/0
rediss://default:Qz7x9W@host:6379
amqp://guest:Qz7x9W@h1:5672,h2:5672//
mongodb://user:Qz7x9W@h1:27017,h2:27017/db?replicaSet=rs0
mongodb+srv://user:Qz7x9W@cluster0.example.net/db
https://user:Qz7x9W@host/path
https://user:Qz7x9W@host:8443/path?a=b
https://x-access-token:Qz7x9W@github.com/org/repo.git
s3a://AKIA:Qz7/x9W@bucket/path
aws://AKIA:Qz7%2Fx9W@/?region_name=x
snowflake://user:Qz7x9W@account/db
ftp://user:Qz7x9W@host/file
smtp://me@corp.com:Qz7x9W@host:587
postgresql://me@corp:Qz7x9W@host/db
DOMAIN\://user:Qz7x9W@host
mssql://DOMAIN\user:Qz7x9W@host/db
://user:Qz7x9W@host
x://user:Qz7x9W@
postgresql://user:Qz7/x9W@host/db
postgresql://user:Qz7@x9W@host/db
postgresql://user:Qz7:x9W@host/db
postgresql://user:Qz7#x9W@host/db
postgresql://user:Qz7?x9W@host/db
postgresql://user:/Qz7x9W@host/db
postgresql://user:#Qz7x9W@host/db
postgresql://user:?Qz7x9W@host/db
postgresql://user:@Qz7x9W@host/db
postgresql://user:Qz7@/x9W@host/db
postgresql://user:Qz7/@x9W@host/db
postgresql://user:Qz7?a=b@x9W@host/db
postgresql://user:12/Qz7x9W@host/db
postgresql://user:12?Qz7x9W@host/db
postgresql://dom/user:Qz7x9W@host/db
postgresql://user:Qz7;x9W@host/db
postgresql://user:Qz7,x9W@host/db
postgresql://user:Qz7[x9W@host/db
postgresql://user:Qz7 x9W@host/db
postgresql://user:Qz7"x9W@host/db
postgresql://user:Qz7'x9W@host/db
postgresql://user:Qz7)x9W@host/db
postgresql://user:Qz7密碼x9W@host/db
postgresql://user:Qz7，x9W@host/db
postgresql://user:Qz7://x9W@host/db
postgresql://user:Qz7x9W=@host/db
postgresql://user:Qz7&token=x9W@host/db
postgresql://user:Qz7?token=x9W@host/db
https://user:Qz7/x9W@host/path
https://user:Qz7/x9W@host:8080/path@y
https://user:80Qz7/x9W@host/path
https://user:099999/Qz7x9W@host/path
'postgresql://user:Qz7'x9W@host/db'
"postgresql://user:Qz7\"x9W@host/db"
postgresql://a:Qz7x9W@h1/db,postgresql://b:Qz7x9W@h2/db
postgresql://a:Qz7x9W@h1/db postgresql://b:Qz7x9W@h2/db
from postgresql://a@h1/db to postgresql://b:Qz7x9W@h2/db
amqp://a:Qz7x9W@h1//;amqp://b:Qz7x9W@h2//
https://proxy:8080/?next=postgresql://user:Qz7x9W@host/db
https://web.archive.org/web/2020/https://user:Qz7x9W@host/
https://host?https://user:Qz7x9W@host
{"url":"https://user:Qz7x9W@host/","mail":"me@corp.com"}
主機：https://user:Qz7x9W@host，完成
主機https://user:Qz7x9W@host，完成
jdbc:oracle:thin:scott/Qz7x9W@//host:1521/service
jdbc:oracle:thin:scott/Qz7/x9@W@host:1521:sid
https://host/?password=Qz7x9W
https://host/?user=me&token=Qz7x9W&page=2
https://host/?token=Qz7@x9W
https://user:Qz7@host/?token=Qz7@x9W
https://host/?token=Qz7x9W#top
https://host/?token=Qz7;x9W&page=2
https://host/?token=Qz7 x9W&page=2
see https://host/?token=Qz7x9W for more
https://host/#access_token=Qz7x9W
https://host/?auth[password]=Qz7x9W
https://account.blob.core.windows.net/c?sv=2022&sas=Qz7x9W
postgresql://user@host/db?password=Qz7x9W&sslmode=require
jdbc:postgresql://host:5432/db?user=me&password=Qz7/x@9W&ssl=true
jdbc:sqlserver://host:1433;user=sa;password=Qz7x9W;encrypt=true
jdbc:sqlserver://host:1433;user=sa@corp;password=Qz7@x9W
jdbc:sqlserver://host:1433;user=sa;password=Qz7 x9W;encrypt=true
jdbc:sqlserver://host:1433;user=sa;password={Qz7;x9W};encrypt=true
jdbc:sqlserver://host:1433;user=sa;password={Qz7}}x9W};encrypt=true
Server=host;Database=db;User Id=sa;Password=Qz7x9W;
Server=host; Pwd=Qz7x9W; Database=db
Password=Qz7 x9W;Server=host
password=Qz7;x9W host=h
AccountName=a;AccountKey=Qz7x9W==;EndpointSuffix=core.windows.net
AccountName=a;Account Key=Qz7x9W==;EndpointSuffix=core.windows.net
Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=Qz7x9W=
DRIVER={ODBC Driver 18};SERVER=host;UID=sa;PWD=Qz7x9W
host=h password=Qz7x9W dbname=d
host=h password = Qz7x9W dbname=d
host=h password=Qz7\ x9W dbname=d
host=h password=Qz7&x9W;x9W dbname=d
host=h password='Qz7 x9W' dbname=d
host=h password='Qz7\' x9W' dbname=d
host=h password='Qz7'' x9W' dbname=d
host=h password='Qz7 x9W
host=h password='Qz7'x9W dbname=d
host=h password="Qz7 x9W" dbname=d
PGPASSWORD=Qz7x9W psql
mysql --password=Qz7x9W -u me
java -Dspring.datasource.password=Qz7x9W
os.environ["DB_PASSWORD"] = "Qz7 x9W"
'password' => 'Qz7 x9W'
password==Qz7x9W
connect(user="me", password="Qz7 x9W")
{"password": "Qz7 x9W", "user": "me"}
{"password": "Qz7\" x9W", "user": "me"}
{'password': 'Qz7 x9W'}
{"secret": {"a": "Qz7}", "b": ["x9W"]}, "user": "me"}
{"token": Qz7x9W}
{"keyfile_dict": {"a": "Qz7
{\"password\": \"Qz7, x9W\", \"user\": \"me\"}
{\"password\": \"Qz7, \\\"x9W\", \"user\": \"me\"}
{"Authorization": "Bearer Qz7x9W"}
Authorization=Bearer Qz7x9W
Authorization: Bearer Qz7aaaaaaaaaaaaaaaax9W
authorization: bearer Qz7.aaaaaaaaaaaaa-_~+/x9W==
curl -H 'Authorization: Basic Qz7aaaaaaaaaaaaaaax9W=='
Basic Qz7aaaaaaaaaaaaaaaax9W
Bearer Qz7aaaaaaaaaaaaaaaax9W Bearer Qz7aaaaaaaaaaaaaaaax9W
""".strip("\n").split("\n")
WITH_SECRET += [
    "[db]\nhost=h\npassword=Qz7 x9W\nport=1",
    "password=Qz7 x9W\nhost=h",
    "DB_HOST=h\nDB_PASSWORD=Qz7x9W\n",
    "first https://host:8080/p@x\nthen https://user:Qz7x9W@host/",
]


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(set(WITHOUT_SECRET)) >= 102
    assert len(set(WITH_SECRET)) >= 60


@pytest.mark.parametrize("text", WITHOUT_SECRET)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize("text", WITH_SECRET)
def test_no_part_of_a_secret_is_left(text: str) -> None:
    masked = mask_text(text)
    assert "Qz7" not in masked
    assert "x9W" not in masked
    assert MASK in masked
    assert mask_text(masked) == masked


HOSTILE = {
    "marks": "://" * 300_000,
    "colons": "a:" * 500_000,
    "URLs in one": "://a:" * 200_000 + "@",
    "parameters in one": "password=" * 100_000,
    "parameters": "token=a " * 120_000,
    "JSON": '"password":' * 90_000,
    "open objects": '"token":{' * 110_000 + '"',
    "open quotes": "password='" * 100_000,
    "open escaped quotes": 'token=\\"' * 130_000,
    "spaces": "token" + " " * 1_000_000 + "@",
    "closers": "a" + ")" * 1_000_000 + "=",
    "long name": "a" * 1_000_000 + "@",
    "runs without an end": "@" + " )x://u:a" * 110_000,
    "hosts": "://h:1" + ",h:1" * 250_000 + "/x@y",
    "brackets": "://[" * 250_000 + "@",
    "oracle": "@" + "jdbc:oracle:a:" * 75_000,
    "oracle users": "jdbc:oracle:a:b/" * 65_000 + "@",
    "nested ports": "mysql://h:1/" * 80_000 + "?k=@",
    "bearer": "Bearer" + " " * 1_000_000 + "=",
    "references": "token=:" + "a." * 500_000,
    "schemes": "a:" * 500_000 + "//@",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_mebibyte_costs_linear_time(text: str) -> None:
    before = time.process_time()
    masked = mask_text(text)
    # Well under half a second on an idle machine; what is quadratic takes from ten seconds to hours.
    assert time.process_time() - before < 4
    assert len(masked) <= len(text)


FRAGMENTS = """
    :// : / @ ? # & = == ; , . ' " \\ \\" { } [ ] ( ) < > * *** **** a b 80 x9 user host password token pwd access key
    postgresql https jdbc:oracle:thin: jdbc: Bearer basic aaaaaaaaaaaaaaaaA1 port true null --p => 密 ， 。 \uffff …
""".split()
texts = st.lists(st.sampled_from([*FRAGMENTS, " ", "\n", "\t"]), max_size=24).map("".join)


@given(texts)
def test_masking_twice_is_masking_once(text: str) -> None:
    masked = mask_text(text)
    assert mask_text(masked) == masked


middles = st.text(alphabet="aZ09/@:#?", max_size=12)
PLACES = (
    *("postgresql://user:{}@host:5432/db", "https://user:{}@host/p@x", "redis://:{}@host", "mysql://a@b:{}@h/d?x=y"),
    *("from x://h:1/ to jdbc:postgresql://u:{}@h/d, y", "postgresql://h/d?password={}&ssl=true", "host=h password={} a=b"),
    *("jdbc:sqlserver://h:1;user=u@v;password={};a=b", "host=h password='{} {}' a=b", '{{"password": "{}, {}", "a": 1}}'),
    *("see https://h:80/?a=b@c&token={} there", "AccountKey={}", "https://u:{}@h/?token={}", "Bearer aaaaaaaaaaaaaaaa{}"),
)


@given(st.sampled_from(PLACES), middles)
def test_a_planted_secret_does_not_leak_from_a_text(place: str, middle: str) -> None:
    if place.startswith("Bearer"):
        middle = ""
    masked = mask_text(place.replace("{}", f"Qz7{middle}x9W").replace("{{", "{").replace("}}", "}"))
    assert "Qz7" not in masked
    assert "x9W" not in masked


# --- Whole values -----------------------------------------------------------------------------------------------------


def test_credentials_are_hidden_wherever_they_stand() -> None:
    config: JSON = {
        "source": "postgresql://user:pass@host:5432/db",
        "target": "s3://bucket/path/",
        "schedule": "0 9 * * *",
        "batch_size": 1000,
        "ratio": 0.5,
        "steps": [{"name": "load", "apiKey": "k", "headers": {"Authorization": "Bearer x"}}, "redis://:pw@h", None],
    }
    before = copy.deepcopy(config)
    assert mask_secrets(config) == {
        "source": "postgresql://user:***@host:5432/db",
        "target": "s3://bucket/path/",
        "schedule": "0 9 * * *",
        "batch_size": 1000,
        "ratio": 0.5,
        "steps": [{"name": "load", "apiKey": MASK, "headers": {"Authorization": MASK}}, "redis://:***@h", None],
    }
    assert config == before


@pytest.mark.parametrize("value", [None, True, False, ""])
def test_what_hides_nothing_stays_under_a_sensitive_key(value: JSON) -> None:
    assert mask_secrets({"use_proxy": value}) == {"use_proxy": value}


@pytest.mark.parametrize("value", [0, 1, -1.5, "x", " ", MASK, [], {}, ["a", ["b"]], {"a": {"b": None}}])
def test_everything_else_under_a_sensitive_key_is_hidden_whole(value: JSON) -> None:
    assert mask_secrets({"password": value}) == {"password": MASK}


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_that_json_does_not_have_becomes_null(number: float) -> None:
    assert mask_secrets([number, {"a": number, "token": number}]) == [None, {"a": None, "token": None}]


def nested(depth: int, *, key: str = "a", inner: JSON = 1) -> JSON:
    value = inner
    for level in range(depth):
        value = [value] if level % 2 else {key: value}
    return value


def test_sixty_four_levels_are_shown_and_no_more() -> None:
    assert mask_secrets(nested(64)) == nested(64)
    assert mask_secrets(nested(65)) == nested(64, inner=CUT) or mask_secrets(nested(65)) == _cut(nested(65), 64)
    assert json.dumps(mask_secrets(nested(100_000)))


def _cut(value: Any, levels: int) -> Any:
    if levels == 0:
        return CUT if isinstance(value, dict | list) else value
    if isinstance(value, dict):
        return {key: _cut(below, levels - 1) for key, below in value.items()}
    return [_cut(below, levels - 1) for below in value]
