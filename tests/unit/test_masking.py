import copy
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyapi.utils import credentials, unmasking
from pyapi.utils.credentials import MASK, credentials_in, is_sensitive_key, mask_text
from pyapi.utils.masking import CUT, JSON, mask_secrets


def restore_secrets(new: Any, stored: Any) -> Any:
    return unmasking.restore_secrets(new, stored)  # `Any`: a list[str] is no list[JSON] to mypy


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
    pass PASS db_pass DB_PASS dbPass pass1 smtp-pass DBPASS PGPASS userpass pw PW db_pw dbPw passcode PassCode
    ssh_key sshKey SSH-KEY signing_key encryption_key aws_key AWS_KEY decryptionKey deploy_key jwt_key fernet_key
    資料庫密碼 密碼 密码 数据库密码2 API金鑰 金鑰 密鑰 密钥 存取權杖 權杖 憑證 登入憑證 访问令牌
"""
ORDINARY_KEYS = """
    host port database schedule batch_size retry_count name path key keys primary_key partition_key user username login
    author authors keyword monkey compass bypass salt saskatoon sasquatch disaster adsnetwork ldsname handsnap upward
    passenger endpoint bucket region url format 密碼欄位 a 1 - _
    foreign_key sort_key sortKey cache_key public_key ssh_public_key idempotency_key row_key monkey_key
    pass_rate passRate trespass surpass bypass_cache passive pwned spw 密碼長度 憑證編號 主鍵 外鍵 鑰匙 名稱
"""


@pytest.mark.parametrize(
    "key", [*SENSITIVE_KEYS.split(), "Access Token", "Account Key", " password ", "connection string"]
)
def test_a_credential_is_known_by_the_name_of_its_key(key: str) -> None:
    assert is_sensitive_key(key)


@pytest.mark.parametrize("key", [*ORDINARY_KEYS.split(), "", " ", "é" * 300, "x" * 100_000])
def test_short_words_do_not_match_inside_other_words(key: str) -> None:
    assert not is_sensitive_key(key)


def test_the_cache_keeps_no_long_keys() -> None:
    before = credentials._is_sensitive.cache_info().currsize
    assert is_sensitive_key("x" * 1_000_000 + "password")
    assert credentials._is_sensitive.cache_info().currsize == before


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
postgresql://[::1]/db@x
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
primary_key: id
host: db.example.com
token: ${TOKEN}
password: null
password: {{ password }}
name: password
- key: value
12:30:00
see: https://host:8080/p@x
https://me@host/p
https://git@github.com/org/repo.git
https://firstname.lastname@dev.azure.com/org/_git/repo
https://me-and-my-organization@host/
ssh://git@github.com/Qz7aaaaaaaaaaaaaaa/repo.git
postgresql://service_account_etl_2@host/db
https://host/path?sign=1&design=2
sig=1 dB
https://hooks.slack.com/docs
-----BEGIN PUBLIC KEY-----MFkwEwYH-----END PUBLIC KEY-----
-----BEGIN CERTIFICATE-----MFkwEwYH-----END CERTIFICATE-----
ghp_ and AKIA are prefixes of tokens
monoghp_aaaaaaaaaaaaaaaa
Authorization: see the manual
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
{"password": "Qz7 x9W
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
Authorization: Bearer Qz7x9W
curl -H "Authorization: token Qz7x9W" https://host
X-Api-Key: Qz7x9W
curl -H 'X-Api-Key: Qz7x9W' https://host
password: Qz7x9W
- password: "Qz7 x9W"
密碼：Qz7x9W
資料庫密碼=Qz7x9W
DB_PASS=Qz7x9W psql
https://Qz7aaaaaaaaaaaaaaax9W@github.com/org/repo.git
https://Qz7x9W:x-oauth-basic@github.com/org/repo.git
https://Qz7x9W:x-oauth-basic@github.com
git+https://Qz7aaaaaaaaaaaaaaax9W@host:8443/org/repo.git
https://hooks.slack.com/services/T0/B0/Qz7x9W
post to https://hooks.slack.com/services/Qz7/B0/x9W, please
https://account.blob.core.windows.net/c/b?sv=2022&sig=Qz7%2Fx9W%3D
https://account.blob.core.windows.net/c/b?sig=Qz7x9W&sv=2022
-----BEGIN PRIVATE KEY-----\nQz7/x9W=\n-----END PRIVATE KEY-----
a -----BEGIN RSA PRIVATE KEY----- Qz7 x9W -----END RSA PRIVATE KEY----- b
-----BEGIN OPENSSH PRIVATE KEY-----Qz7x9W
""".strip("\n").split("\n")
WITHOUT_SECRET.append("http://me@host:abc " + "a" * 300 + " me@corp.com")
WITH_SECRET += [
    "[db]\nhost=h\npassword=Qz7 x9W\nport=1",
    "password=Qz7 x9W\nhost=h",
    "DB_HOST=h\nDB_PASSWORD=Qz7x9W\n",
    "-----BEGIN EC PRIVATE KEY-----\nQz7aaa/x9W=\n-----END EC PRIVATE KEY-----\n",
    "host: h\npassword: Qz7x9W\nport: 1",
    "Host: h\r\nX-Api-Key: Qz7x9W\r\nAccept: */*",
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
    "parameters": "token=a " * 60_000,
    "JSON": '"password":' * 45_000,
    "open objects": '"token":{' * 55_000 + '"',
    "open quotes": "password='" * 50_000,
    "open escaped quotes": 'token=\\"' * 65_000,
    "spaces": "token" + " " * 500_000 + "@",
    "closers": "a" + ")" * 500_000 + "=",
    "long name": "a" * 500_000 + "@=",
    "runs without an end": "@" + " )x://u:a" * 55_000,
    "hosts": "://h:1" + ",h:1" * 125_000 + "/x@y",
    "brackets": "://[" * 125_000 + "@",
    "oracle users": "jdbc:oracle:a:b/" * 32_000 + "@",
    "nested ports": "mysql://h:1/" * 40_000 + "?k=@",
    "bearer": "Bearer" + " " * 500_000 + "=",
    "references": "token=:" + "a." * 250_000,
    "schemes": "a:" * 250_000 + "//@",
    "lines": "a: b\n" * 100_000,
    "secret lines": "token: b\n" * 60_000,
    "spaces in a line": ("\n" + " " * 1000) * 500 + ":",
    "quotes and colons": '":' * 250_000,
    "private keys": "-----BEGIN PRIVATE KEY-----" * 20_000,
    "URLs of tokens": "https://" * 60_000 + "@",
    "long tokens": "https://" + "a" * 500_000 + "@",
    "authorizations": "Authorization: " * 35_000,
    "webhooks": "hooks.slack.com/services/" * 20_000,
    "prefixes": "ghp_" * 120_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_cost_linear_time(text: str) -> None:
    before = time.process_time()
    masked = mask_text(text)
    # Under 0.3 s on an idle machine; what is quadratic takes from two seconds to hours.
    assert time.process_time() - before < 1.5
    assert len(masked) <= len(text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://user:pass@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql://me@corp:p/@ss@[::1]:5432/db?a=b", "postgresql://me@corp:***@[::1]:5432/db?a=b"),
        ("https://u:p@h/?x=1&token=a@b&y=2", "https://u:***@h/?x=1&token=***&y=2"),
        ("a://u:p@h1/,b://u:q@h2/ and c://h3:1/x@y", "a://u:***@h1/,b://u:***@h2/ and c://h3:1/x@y"),
        ("jdbc:sqlserver://h:1;user=a@b;password=p@q;x=y", "jdbc:sqlserver://h:1;user=a@b;password=***;x=y"),
        ("host=h password='a b' dbname=d", "host=h password='***' dbname=d"),
        ('{"token": "a", "x": {"secret": [1, {"y": 2}], "z": 3}}', '{"token": "***", "x": {"secret": ***, "z": 3}}'),
        ("Authorization: Bearer abcdefghijklmnop, x", "Authorization: Bearer ***, x"),
        ("主機：https://u:p@h，完成", "主機：https://u:***@h，完成"),
    ],
)
def test_nothing_else_is_hidden(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_secrets_by_the_thousand_are_hidden_with_their_text() -> None:
    text = "https://u:Qz7x9W@h/ " * 1001
    assert mask_text(text) == MASK
    assert mask_text(text[: text.rindex("https")]).count(MASK) == 1000
    assert restore_secrets({"a": MASK}, {"a": text}) == ({"a": text}, [])
    assert restore_secrets({"a": MASK, "host": 1}, {"a": text})[1] != []


FRAGMENTS = """
    :// : / @ ? # & = == ; , . ' " \\ \\" { } [ ] ( ) < > * *** **** a b : ： - ghp_aaaaaaaaA1 AKIA https
    hooks.slack.com/services/ -----BEGIN PRIVATE KEY-----
    -----END :x-oauth-basic@ Authorization: sig X-Api-Key: 80 x9 user host password token pwd access key
    postgresql https jdbc:oracle:thin: jdbc: Bearer basic aaaaaaaaaaaaaaaaA1 port true null --p => 密 ， 。 \uffff …
"""
texts = st.lists(st.sampled_from([*FRAGMENTS.split(), " ", "\n", "\t"]), max_size=24).map("".join)


KNOWN_TOKENS = [
    *("ghp_Qz7aaaaaaaaax9W", "gho_Qz7aaaaaaaaax9W", "github_pat_Qz7aaaaaa_x9W", "glpat-Qz7aaaaa-x9W"),
    *("xoxb-12-Qz7aaaa-x9W", "xoxp-12-Qz7aaaa-x9W", "sk_live_Qz7aaaaaax9W", "pyapi_pat_Qz7aaaa-_x9W"),
    "AKIAIOSFODNN7EXAMPLE",
]


@pytest.mark.parametrize("place", ["{}", "use {}, please", "x://{}:p@h/", "https://h/{}/b", '["{}"]', "a={}&b=1"])
@pytest.mark.parametrize("token", KNOWN_TOKENS)
def test_a_token_is_known_by_its_beginning(token: str, place: str) -> None:
    masked = mask_text(place.format(token))
    assert (token in masked, MASK in masked, mask_text(masked)) == (False, True, masked)


@given(texts)
def test_masking_twice_is_masking_once(text: str) -> None:
    masked = mask_text(text)
    assert mask_text(masked) == masked


words = st.text(alphabet="aZ09._-", min_size=1, max_size=6)
plain_urls = st.tuples(
    *(st.sampled_from(["postgresql", "jdbc:mysql", "jdbc:oracle:thin", "x+y"]), st.just("://"), words, st.just(":")),
    *(st.text(alphabet="aZ09._-~%!$^*+", min_size=1, max_size=6), st.just("@"), words),
    st.sampled_from(["", ":5432", "/", "/db", ":1/a/b"]),
).map("".join)


@given(plain_urls)
def test_the_short_way_through_a_plain_url_hides_what_the_long_way_hides(url: str) -> None:
    assert credentials._PLAIN_URL.fullmatch(url)
    assert mask_text(url) == credentials.hide_secrets(url, credentials.find_secrets(url))


@given(
    st.sampled_from(["postgresql", "jdbc:mysql", "amqps", "mongodb+srv"]),
    *(st.text(alphabet="aZ09._-", min_size=1, max_size=6) for _ in range(2)),
    st.sampled_from(["", ":5432", "/", "/db", ":1/a/b", ":5432/銷售_1", "//x.é"]),
)
def test_the_short_way_past_a_url_without_a_password_hides_what_the_long_way_hides(
    scheme: str, user: str, host: str, rest: str
) -> None:
    url = f"{scheme}://{user}@{host}{rest}"
    assert credentials._URL_WITHOUT_PASSWORD.fullmatch(url)
    assert credentials.find_secrets(url) == []
    assert mask_text(url) == url


middles = st.text(alphabet="aZ09/@:#?", max_size=12)
PLACES = (
    *("postgresql://user:{}@host:5432/db", "https://user:{}@host/p@x", "redis://:{}@host", "mysql://a@b:{}@h/d?x=y"),
    *(
        "from x://h:1/ to jdbc:postgresql://u:{}@h/d, y",
        "postgresql://h/d?password={}&ssl=true",
        "host=h password={} a=b",
    ),
    *(
        "jdbc:sqlserver://h:1;user=u@v;password={};a=b",
        "host=h password='{} {}' a=b",
        '{{"password": "{}, {}", "a": 1}}',
    ),
    *(
        "see https://h:80/?a=b@c&token={} there",
        "AccountKey={}",
        "https://u:{}@h/?token={}",
        "Bearer aaaaaaaaaaaaaaaa{}",
    ),
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


def nested(depth: int, inner: Any = 1) -> Any:
    """Objects and lists in turn, the innermost one a list with `inner` in it."""
    value = [inner]
    for level in range(1, depth):
        value = [value] if level % 2 else {"a": value}  # type: ignore[assignment]
    return value


def innermost(value: Any) -> Any:
    while isinstance(value, dict | list):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


def test_sixty_four_levels_are_shown_and_no_more() -> None:
    assert mask_secrets(nested(64)) == nested(64)
    assert innermost(mask_secrets(nested(65))) == CUT
    assert json.dumps(mask_secrets(nested(65))).count("[") + json.dumps(mask_secrets(nested(65))).count("{") == 64
    assert json.dumps(mask_secrets(nested(10_000)))
    assert mask_secrets({"token": nested(10_000)}) == {"token": MASK}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
keys = st.sampled_from(["a", "b/c", "d~e", "host", "password", "token", "use_proxy", "url", "user", ""]) | st.text()
values = st.recursive(
    scalars | st.sampled_from([MASK, CUT, "postgresql://u:p@h/db", "postgresql://u:***@h/db"]),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(keys, below, max_size=4),
    max_leaves=16,
)


SECRET = "Qz7-x9W"


def as_text(value: JSON) -> str:
    return json.dumps(value, sort_keys=True)


@given(values)
def test_what_is_read_can_be_written_back(stored: Any) -> None:
    restored, errors = restore_secrets(mask_secrets(stored), stored)
    assert errors == []
    assert as_text(restored) == as_text(stored)


@given(values)
def test_masking_a_value_twice_is_masking_it_once(value: Any) -> None:
    masked = mask_secrets(value)
    assert as_text(mask_secrets(masked)) == as_text(masked)


@given(values, st.sampled_from(SENSITIVE_KEYS.split()))
def test_a_planted_secret_does_not_leak_from_a_value(around: Any, key: str) -> None:
    planted: Any
    for planted in ({"a": around, key: SECRET}, [around, {key: [SECRET, around]}], {"b": {key: {SECRET: around}}}):
        assert SECRET not in as_text(mask_secrets(planted))


# --- Back again -------------------------------------------------------------------------------------------------------

STORED: dict[str, Any] = {
    "source": {"host": "h1", "user": "etl", "password": "s3cret", "table": "a"},
    "target": "postgresql://etl:pw@h2:5432/db",
    "steps": [{"name": "a", "token": "t-a"}, {"name": "b", "token": "t-b"}, {"name": "c"}],
    "hidden": {"keyfile_dict": {"private": ["k"]}, "use_proxy": True, "pwd": 7, "sas": MASK},
    "note": "***",
}


def changed(**changes: Any) -> Any:
    """What a client sends: the masked config, with other values at paths written `source__password`."""
    sent: Any = mask_secrets(STORED)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = sent
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return sent


def errors_of(new: Any, stored: Any) -> list[tuple[str, str]]:
    _, errors = restore_secrets(new, stored)
    return [(error.pointer, error.detail) for error in errors]


def test_stored_secrets_go_back_and_everything_else_is_new() -> None:
    new = changed(note="new ***", source__table="b", target="postgresql://etl:new@h3/db")
    before = copy.deepcopy((new, STORED))
    restored, errors = restore_secrets(new, STORED)
    assert errors == []
    expected = copy.deepcopy(STORED)
    expected["note"] = "new ***"
    expected["source"]["table"] = "b"
    expected["target"] = "postgresql://etl:new@h3/db"
    assert restored == expected
    assert (new, STORED) == before


def test_a_new_secret_replaces_the_stored_one() -> None:
    restored, errors = restore_secrets(changed(source__password="other", hidden__keyfile_dict={"a": 1}), STORED)
    assert errors == []
    assert isinstance(restored, dict)
    assert restored["source"] == {**STORED["source"], "password": "other"}
    assert restored["hidden"] == {**STORED["hidden"], "keyfile_dict": {"a": 1}}


def test_a_mask_is_ordinary_text_where_nothing_would_be_hidden() -> None:
    value: Any = {"note": MASK, "a": [MASK, "x *** y", {"b": MASK}], "path": "/data/***/x.csv", "use_proxy": True}
    assert restore_secrets(value, None) == (value, [])
    assert restore_secrets(value, STORED) == (value, [])


@pytest.mark.parametrize(
    ("new", "pointer"),
    [
        ({"password": MASK}, "/password"),
        ({"a/b~c": [{"api-key": MASK}]}, "/a~1b~0c/0/api-key"),
        ({"url": "postgresql://u:***@h/db"}, "/url"),
        ({"x": ["host=h password=*** dbname=d"]}, "/x/0"),
        ({"x": "host=h password='***'"}, "/x"),
        ({"x": '{"password": "***"}'}, "/x"),
        ({"x": "Authorization: Bearer ***"}, "/x"),
        ({"proxies": {"http": MASK}}, "/proxies/http"),
        ({"proxies": {"http": "http://u:***@h"}}, "/proxies/http"),
        ({"secret": [["a", MASK]]}, "/secret/0/1"),
        ("postgresql://u:***@h/db", ""),
    ],
)
@pytest.mark.parametrize(
    "stored", [None, True, "", 1, [], {}, {"password": None}, {"password": True}, {"password": ""}]
)
def test_a_mask_without_a_stored_secret_is_an_error(new: Any, pointer: str, stored: Any) -> None:
    assert errors_of(new, stored) == [(pointer, unmasking.NOTHING_STORED)]


def test_a_mask_that_is_stored_as_such_is_ordinary_text() -> None:
    text = "host=h password=***"
    assert restore_secrets({"host": "b", "x": text}, {"host": "a", "x": text}) == ({"host": "b", "x": text}, [])


def test_a_secret_does_not_follow_to_another_name_or_another_place() -> None:
    stored = {"a": {"password": "p"}, "b": {}}
    for new in ({"a": {"passwd": MASK}}, {"b": {"password": MASK}}, {"c": {"password": MASK}}, {"password": MASK}):
        assert [detail for _, detail in errors_of(new, stored)] == [unmasking.NOTHING_STORED]


@pytest.mark.parametrize(
    "host", ["host", "hostname", "Host", "db_host", "dbHost", "server", "serverName", "server-name"]
)
def test_a_secret_stays_with_its_host(host: str) -> None:
    stored = {host: "h1", "password": "p"}
    assert errors_of({host: "h2", "password": MASK}, stored) == [("/password", unmasking.TARGET_CHANGED)]
    assert errors_of({"password": MASK}, stored) == [("/password", unmasking.TARGET_CHANGED)]
    assert errors_of({host: "h1", "password": MASK}, {"password": "p"}) == [("/password", unmasking.TARGET_CHANGED)]
    assert errors_of({host: "h2", "password": "p"}, stored) == []
    assert restore_secrets({host: "h1", "password": MASK, "x": 1}, stored) == ({**stored, "x": 1}, [])


@pytest.mark.parametrize(
    "name",
    ["port", "account", "endpoint", "endpoint_url", "endpointUrl", "url", "uri", "user", "user-name", "login", "proxy"],
)
def test_a_secret_stays_with_its_address_and_user(name: str) -> None:
    stored = {name: "a", "token": "t"}
    assert errors_of({name: "b", "token": MASK}, stored) == [("/token", unmasking.TARGET_CHANGED)]


@pytest.mark.parametrize("name", ["table", "database", "schema", "report", "export", "supported", "ghost", "batch"])
def test_other_fields_may_change_beside_a_secret(name: str) -> None:
    stored = {name: "a", "token": "t"}
    assert restore_secrets({name: "b", "token": MASK}, stored) == ({name: "b", "token": "t"}, [])


def test_a_port_that_turns_from_a_number_into_true_has_changed() -> None:
    assert errors_of({"port": True, "token": MASK}, {"port": 1, "token": "t"}) == [("/token", unmasking.TARGET_CHANGED)]


def test_an_address_counts_for_the_secrets_below_it_and_not_for_those_beside_it() -> None:
    stored: Any = {
        "a": {"host": "h", "auth": [{"token": "t"}], "header": "Bearer abcdefghijklmnop1"},
        "b": {"token": "t"},
    }
    new: Any = mask_secrets(stored)
    new["a"]["host"] = "evil"
    assert errors_of(new, stored) == [
        ("/a/auth/0/token", unmasking.TARGET_CHANGED),
        ("/a/header", unmasking.TARGET_CHANGED),
    ]


def test_an_address_that_holds_a_secret_itself_counts_as_it_is_shown_or_as_it_is() -> None:
    stored = {"url": "https://u:p@h/x", "token": "t"}
    assert restore_secrets({"url": "https://u:***@h/x", "token": MASK}, stored) == (stored, [])
    assert restore_secrets({"url": "https://u:p@h/x", "token": MASK}, stored) == (stored, [])
    assert errors_of({"url": "https://u:q@evil/x", "token": MASK}, stored) == [("/token", unmasking.TARGET_CHANGED)]


def test_a_url_says_itself_where_its_password_goes() -> None:
    stored = {"user": "a", "source": "postgresql://u:p@h/db"}
    assert restore_secrets({"user": "b", "source": "postgresql://u:***@h/db"}, stored) == ({**stored, "user": "b"}, [])
    without_host = {"host": "a", "source": "postgresql:///db?password=p"}
    new = {"host": "b", "source": "postgresql:///db?password=***"}
    assert errors_of(new, without_host) == [("/source", unmasking.TARGET_CHANGED)]


URL = "postgresql://etl:p@w/x@h:5432/db?sslmode=require&sslpassword=q"


@pytest.mark.parametrize(
    ("new", "restored"),
    [
        ("postgresql://etl:***@h:5432/db?sslmode=require&sslpassword=***", URL),
        (
            "postgresql://etl:***@h:5432/other?sslmode=require&sslpassword=***",
            "postgresql://etl:p@w/x@h:5432/other?sslmode=require&sslpassword=q",
        ),
        ("postgresql://etl:***@h:5432", "postgresql://etl:p@w/x@h:5432"),
        ("postgresql://etl:***@h:5432/db?sslmode=disable", "postgresql://etl:p@w/x@h:5432/db?sslmode=disable"),
        ("postgresql://etl:***@h:5432/db?sslpassword=new", "postgresql://etl:p@w/x@h:5432/db?sslpassword=new"),
        ("postgresql://etl:new@h:5432/db?sslpassword=***", "postgresql://etl:new@h:5432/db?sslpassword=q"),
        ("postgresql://etl:new@evil:5432/db", "postgresql://etl:new@evil:5432/db"),
        ("no URL any more", "no URL any more"),
    ],
)
def test_the_path_of_a_url_may_change_around_its_password(new: str, restored: str) -> None:
    assert restore_secrets([new], [URL]) == ([restored], [])


@pytest.mark.parametrize(
    "new",
    [
        "postgresql://etl:***@evil:5432/db",
        "postgresql://etl:***@h:5433/db",
        "postgresql://etl:***@h/db",
        "postgresql://other:***@h:5432/db",
        "postgresql://:***@h:5432/db",
        "http://etl:***@h:5432/db",
        "postgresql://etl:***@h:5432,evil:5432/db",
        "postgresql://etl:***@h:5432@evil/db",
        "postgresql://etl:***@h:5432/@evil/db",
        "postgresql://etl:***@h:5432\\@evil/db",
        "postgresql://etl:***@h:5432。evil/db",
        "postgresql://etl:***@h:5432/db?host=evil",
        "postgresql://etl:***@h:5432/db?%68ost=evil",
        "postgresql://etl:***@h:5432/db?hostaddr=10.0.0.1",
        "postgresql://etl:***@h:5432/db;serverName=evil",
        "postgresql://etl:***@h:5432/db?user=other",
        "postgresql://etl:***@h:5432/db?a=b?host=evil",
        "postgresql://etl:***@h:5432/db?" + "host=h&" * 20,
        "postgresql://etl:***@h:5432/db https://etl:***@evil/",
        "x postgresql://etl:***@h:5432/db",
        "https://evil/?sslpassword=***",
        "https://evil/?password=***",
        "postgresql://etl:***@h:5432/db?password=***",
        "postgresql://etl:new@h:5432/db?token=***",
        "host=evil password=***",
        "Bearer ***",
        "*** is hidden",
    ],
)
def test_a_password_does_not_go_to_another_server(new: str) -> None:
    restored, errors = restore_secrets([new], [URL])
    assert [(error.pointer, error.detail) for error in errors] == [("/0", unmasking.TEXT_CHANGED)]
    assert restored == [new]


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ("https://h/a?token=t", "https://evil/a?token=***"),
        ("https://me@h/a?token=t", "https://you@h/a?token=***"),
        ("host=h password=p dbname=a", "host=evil password=*** dbname=a"),
        ("host=h password=p dbname=a", "host=h password=*** dbname=b"),
        ("jdbc:sqlserver://h:1433;user=sa;password=p", "jdbc:sqlserver://h:1433;user=sb;password=***"),
        ("jdbc:sqlserver://h:1433;user=sa;password=p", "jdbc:sqlserver://h:1433;user=sa b;password=***"),
        ("https://h/?" + "host=h&" * 20 + "token=t", "https://h/a?" + "host=h&" * 20 + "token=***"),
        ("jdbc:sqlserver://h:1433;password=p", "jdbc:sqlserver://h:1433;serverName=evil;password=***"),
        ("jdbc:oracle:thin:scott/tiger@//h:1521/a", "jdbc:oracle:thin:scott/***@//evil:1521/a"),
        ("https://h/?token=a&x=b&token=c", "https://h/?token=***&x=d&token=***"),
        ("https://h/?token=a&x=b&token=c", "https://h/?x=d&token=***"),
        ("jdbc:sqlserver://h:1;password=a&b", "jdbc:sqlserver://h:1?password=***"),  # would show the b
        ("postgresql://u:p&token=q@h/db", "postgresql://u:***/other"),
        ("postgresql://dom/u:p@h/db", "postgresql://dom/u:***@evil/db"),
    ],
)
def test_a_text_that_changed_around_its_secret_wants_the_secret_again(stored: str, new: str) -> None:
    assert errors_of([new], [stored]) == [("/0", unmasking.TEXT_CHANGED)]


@pytest.mark.parametrize(
    ("stored", "new", "restored"),
    [
        ("https://h/a?token=t", "https://h/b?x=1&token=***", "https://h/b?x=1&token=t"),
        (
            "jdbc:sqlserver://h:1;user=sa;password=p;databaseName=a",
            "jdbc:sqlserver://h:1;databaseName=b;user=sa;password=***",
            "jdbc:sqlserver://h:1;databaseName=b;user=sa;password=p",
        ),
        ("jdbc:oracle:thin:u/p@//h:1521/a", "jdbc:oracle:thin:u/***@//h:1521/a", "jdbc:oracle:thin:u/p@//h:1521/a"),
    ],
)
def test_other_texts_may_change_behind_the_host(stored: str, new: str, restored: str) -> None:
    assert restore_secrets([new], [stored]) == ([restored], [])


# --- Lists ------------------------------------------------------------------------------------------------------------

A, B, C = ({"name": name, "token": f"t-{name}"} for name in "abc")


def hidden(*entries: Any) -> Any:
    return mask_secrets(list(entries))


@pytest.mark.parametrize("order", [[A, B, C], [C, B, A], [B, C, A], [B, C], [C], [{"name": "new"}, A, {"x": 1}, C, B]])
def test_entries_keep_their_secrets_when_a_list_is_rearranged(order: list[Any]) -> None:
    assert restore_secrets(hidden(*order), [A, B, C]) == (order, [])


def test_an_entry_changed_at_its_place_keeps_its_secret() -> None:
    new = hidden(A, {**B, "name": "new"}, C)
    assert restore_secrets(new, [A, B, C]) == ([A, {"name": "new", "token": "t-b"}, C], [])


@pytest.mark.parametrize(
    ("new", "pointers"),
    [
        ([{"name": "new", "token": MASK}, *hidden(A, B, C)], ["/0/token"]),  # another length
        ([{"name": "new", "token": MASK}, *hidden(B, C)][:2], ["/0/token"]),
        (hidden(B, {**A, "name": "new"}, C), ["/1/token"]),  # B has moved, so place 1 says nothing
        (hidden(A, A, C), ["/1/token"]),  # a copy of A: the secret of B is not for it
        (hidden(A, B, C, A), ["/3/token"]),
    ],
)
def test_a_secret_does_not_move_to_another_entry(new: Any, pointers: list[str]) -> None:
    assert [pointer for pointer, _ in errors_of(new, [A, B, C])] == pointers


def test_a_list_of_urls_may_be_rearranged() -> None:
    stored = ["postgresql://u:p1@h1/db", "postgresql://u:p2@h2/db"]
    assert restore_secrets(["postgresql://u:***@h2/db"], stored) == (stored[1:], [])
    assert restore_secrets(["x", "postgresql://u:***@h1/db"], stored) == (["x", stored[0]], [])
    assert errors_of(["postgresql://u:***@h1/other", "x", "y"], stored) == [("/0", unmasking.NOTHING_STORED)]


def test_entries_that_look_alike_keep_their_order() -> None:
    stored = [{"token": "1"}, "x", {"token": "2"}]
    assert restore_secrets(["x", {"token": MASK}, {"token": MASK}], stored) == (
        ["x", {"token": "1"}, {"token": "2"}],
        [],
    )


def test_when_one_of_two_lookalikes_goes_nobody_knows_which() -> None:
    stored = [{"token": "1"}, {"token": "2"}]
    assert errors_of([{"token": MASK}], stored) == [("/0", unmasking.LOOK_ALIKE)]
    assert errors_of([{"token": MASK}] * 3, stored) == [(f"/{index}", unmasking.LOOK_ALIKE) for index in range(3)]
    assert restore_secrets(["x", {"token": MASK}], stored) == (["x", {"token": "2"}], [])
    same = [{"token": "1"}, {"token": "1"}]
    assert restore_secrets([{"token": MASK}], same) == ([{"token": "1"}], [])


def test_one_and_true_are_different_entries() -> None:
    stored: Any = [{"a": True, "token": "1"}, {"a": 1, "token": "2"}]
    new: Any = [{"a": 1, "token": MASK}, {"a": True, "token": MASK}]
    assert restore_secrets(new, stored) == ([stored[1], stored[0]], [])


# --- What plain SQL may have stored -----------------------------------------------------------------------------------


def test_what_is_too_deep_is_neither_lost_nor_written_back() -> None:
    stored = {"token": nested(64), "a": nested(64)}
    refused = errors_of(mask_secrets(stored), stored)
    assert [detail for _, detail in refused] == [unmasking.NOT_STORABLE] * 2
    assert refused[0][0] == "/token"
    assert refused[1][0].startswith("/a/0/a/0/")
    assert errors_of({"token": MASK}, {"token": nested(63)}) == []
    assert errors_of({"a": CUT}, {"a": CUT}) == errors_of({"a": CUT}, None) == []


def test_rows_of_any_depth_are_walked_without_recursion() -> None:
    stored = [{"token": nested(10_000)}, nested(10_000), {"host": nested(10_000), "token": "t"}]
    new: Any = mask_secrets(stored)
    assert errors_of(new, stored)
    assert errors_of([*new, 1], stored)
    assert errors_of(nested(10_000, MASK), stored) == []


def test_infinity_is_not_written_back() -> None:
    stored = {"token": [math.inf], "a": math.inf, "pwd": math.inf, "password": "p"}
    assert errors_of({"token": MASK}, stored) == [("/token", unmasking.NOT_STORABLE)]
    new = {"a": None, "pwd": None, "password": MASK}
    assert restore_secrets(new, stored) == ({"a": None, "pwd": None, "password": "p"}, [])


def test_no_more_errors_than_somebody_reads() -> None:
    assert len(errors_of([{"token": MASK}] * 1000, None)) == 32


PLAIN = {
    "source": "postgresql://etl:p%40ss-4711@host/db?token=t-4712",
    "smtp": [{"api_key": ["k-4713", {"x": 47140, "y": True, "z": None}]}],
    "command": "curl -H 'Authorization: Bearer abcdefghijklmnop4715'",
    "table": "orders",
}


def test_the_credentials_of_a_config_are_found() -> None:
    expected = ["47140", "abcdefghijklmnop4715", "k-4713", "p%40ss-4711", "t-4712"]
    assert sorted(credentials_in(PLAIN)) == expected


# --- Names and values side by side ------------------------------------------------------------------------------------

SECRET_PAIRS: list[Any] = [
    {"name": "DB_PASSWORD", "value": "Qz7x9W"},
    {"Name": "DB_PASSWORD", "Value": "Qz7x9W"},
    {"key": "service-token", "value": 4711},
    {"header": "X-Api-Key", "value": ["Qz7x9W"]},
    {"name": "資料庫密碼", "value": {"a": "Qz7x9W"}, "required": True},
]


@pytest.mark.parametrize("pair", SECRET_PAIRS)
def test_the_value_of_a_pair_is_a_credential_when_its_name_says_so(pair: dict[str, Any]) -> None:
    value = next(key for key in pair if key.lower() == "value")
    assert mask_secrets({"env": [pair]}) == {"env": [pair | {value: MASK}]}


@pytest.mark.parametrize(
    "pair",
    [
        {"name": "DB_HOST", "value": "h"},
        {"name": "password", "type": "text"},
        {"name": "password", "value": None},
        {"name": 1, "value": "x"},
        {"label": "password", "value": "x"},
        {"key": "primary_key", "value": "id"},
    ],
)
def test_other_pairs_stay_as_they_are(pair: dict[str, Any]) -> None:
    assert mask_secrets({"env": [pair]}) == {"env": [pair]}


@pytest.mark.parametrize("pair", SECRET_PAIRS)
def test_the_value_of_a_pair_comes_back(pair: dict[str, Any]) -> None:
    assert restore_secrets({"env": [mask_secrets(pair)]}, {"env": [pair]}) == ({"env": [pair]}, [])


@pytest.mark.parametrize("name", ["LOG_LEVEL", "OTHER_PASSWORD"])
def test_the_value_of_a_pair_does_not_come_back_under_another_name(name: str) -> None:
    """Under the one it would be shown to everybody, under the other it would be somebody else's."""
    _, errors = restore_secrets([{"name": name, "value": MASK}], [{"name": "DB_PASSWORD", "value": "Qz7x9W"}])
    assert [error.pointer for error in errors] == ["/0/value"]
