"""Finds credentials: names of keys whose values are secret, and the secret parts of a text.

A text holds them as the password of a URL, as a sensitive parameter or line, as a token that its beginning gives away,
as a private key, or encrypted. What is unclear counts as secret: a text that shows too little can be written again, a
password that has been shown cannot be taken back.
Everything here is linear in the size of what it reads.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

MASK = "***"


# --- Names of keys ----------------------------------------------------------------------------------------------------

# Airflow's DEFAULT_SENSITIVE_FIELDS, and four more of ours. They match anywhere in a name, as in Airflow.
_SENSITIVE_NAMES = (
    *("access_key", "access_token", "api_key", "apikey", "auth_header", "authorization", "bearer", "connection_string"),
    *("passphrase", "passwd", "password", "private_key", "proxy", "proxy_password", "proxies", "secret"),
    *("service_account", "service_key", "token", "keyfile_dict", "webhook_url", "credential", "account_key"),
    # Keys that open something; primary, foreign, sort and partition keys only name a column.
    *("auth_key", "aws_key", "decryption_key", "deploy_key", "encryption_key", "fernet_key", "hmac_key", "jwt_key"),
    *("master_key", "rsa_key", "shared_access_key", "signing_key", "ssh_key", "passcode"),
)
_SENSITIVE = re.compile("|".join(name.replace("_", "") for name in _SENSITIVE_NAMES))
# Too short to match inside a word: sas is in "saskatoon", dsn in "adsnetwork".
_SENSITIVE_WORDS = frozenset({"dbpass", "dsn", "pgpass", "pw", "pwd", "sas", "userpass"})
_SENSITIVE_LAST_WORD = re.compile(
    r"(?:(?i:(?:^|[^a-z])pass)|Pass)[\W_\d]*+$"
)  # db_pass, smtpPass; not pass_rate, compass
# Password, key, token, credential. Of the column, the length or the number of one nothing is told.
_SENSITIVE_CHINESE = re.compile(
    r"(?:密碼|密码|口令|金鑰|密鑰|密钥|權杖|权杖|令牌|憑證|凭证|凭据)(?!欄|栏|字段|長度|长度|編號|编号)"
)
# What else signs a URL, and is a word like any other elsewhere.
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
# {"name": "DB_PASSWORD", "value": "x"}: how environments and headers are listed.
_NAMES_OF_PAIRS = ("name", "key", "Name", "Key", "header", "variable", "parameter")
_VALUES_OF_PAIRS = ("value", "Value")
# Where a secret is sent, or who it belongs to: db_host, serverName, api-url, smtp_user_name, proxies.
_CONNECTION = re.compile(
    r"(?:^|_)(?:db|jdbc|base|api)?"
    r"(?:account|addr|address|broker|datasource|data_source|domain|endpoint|host|hostaddr|hostname|login|port|prox(?:y|ie)"
    r"|server|servername|uid|uri|url|user|username)s?"
    r"(?:_?(?:addr|address|id|name|number|override|uri|url))?(?:_\d+)?$"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_LONGEST_REMEMBERED = 128


def is_sensitive_key(key: str) -> bool:
    """Whether the value of this key is a credential: privateKey, api-key, "Access Token", DB_PASSWORD, max_tokens."""
    # A client chooses the keys: the cache must not keep megabytes for it.
    return _is_sensitive(key) if len(key) <= _LONGEST_REMEMBERED else _is_sensitive.__wrapped__(key)


@lru_cache(4096)
def _is_sensitive(key: str) -> bool:
    if _SENSITIVE.search(_NOT_ALPHANUMERIC.sub("", key.lower())) or _SENSITIVE_LAST_WORD.search(key):
        return True
    if not key.isascii() and _SENSITIVE_CHINESE.search(key):
        return True
    return any(word.lower() in _SENSITIVE_WORDS for word in _WORD.findall(key))


def secrets_of_pair(found: dict[str, Any]) -> tuple[str, ...]:
    """The keys whose values are credentials because their neighbour says so: {"name": "DB_PASSWORD", "value": "x"}."""
    if "value" not in found and "Value" not in found:
        return ()
    names = (found.get(name) for name in _NAMES_OF_PAIRS)
    return _VALUES_OF_PAIRS if any(isinstance(name, str) and _names_a_secret(name) for name in names) else ()


def names_of_pair(found: dict[str, Any]) -> tuple[str, ...]:
    """The keys that say what the values are which `secrets_of_pair` tells."""
    return _NAMES_OF_PAIRS if secrets_of_pair(found) else ()


def _names_a_secret(name: str) -> bool:
    # A name that is hidden itself says nothing, so that what is masked or encrypted is read as what it was.
    return len(name) <= _LONGEST_REMEMBERED and is_sensitive_key(name) and mask_text(name) == name


def is_connection_key(key: str) -> bool:
    """Whether the value of this key says where a secret is sent or whose it is: db_host, serverName, smtp_user."""
    return bool(_CONNECTION.search("_".join(_WORD.findall(key)).lower()))


def credentials_in(value: object) -> Iterator[str]:
    """All credentials inside a JSON value, however deep: what stands under sensitive names, and in texts."""
    waiting = [(value, False)]
    while waiting:
        found, is_secret = waiting.pop()
        if isinstance(found, dict):
            told = secrets_of_pair(found)
            waiting += [(below, is_secret or key in told or is_sensitive_key(key)) for key, below in found.items()]
        elif isinstance(found, list):
            waiting += [(below, is_secret) for below in found]
        elif isinstance(found, str):
            if is_secret:
                yield found
            yield from (found[secret.begin : secret.end] for secret in find_secrets(found))
        elif is_secret and isinstance(found, int | float) and not isinstance(found, bool):
            yield str(found)


def texts_in(value: object) -> list[str]:
    """All texts inside a JSON value, however deep; the names of keys are none."""
    texts: list[str] = []
    waiting = [value]
    for found in waiting:
        if isinstance(found, str):
            texts.append(found)
        elif isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return texts


# --- Secrets inside a text --------------------------------------------------------------------------------------------


SEALED = re.compile(r"fernet:(gAAAA[A-Za-z0-9_\-]++={0,2}+)")
"""A secret as it is stored encrypted: every Fernet token begins with its version and the upper half of a time. What
people write ("fernet: my drink") does not."""


class Secret(NamedTuple):
    """`text[begin:end]` is a secret; `label` is the name of its parameter, or "@" for the password of a URL."""

    begin: int
    end: int
    label: str


# What most records hold, postgresql://user:password@host:5432/db, in a thirtieth of the time that the rest of this part
# takes to hide the same.
_PLAIN_URL = re.compile(
    rf"([\w+.\-]++(?::[\w+.\-]++)*+://[\w.\-]*+:)(?:{SEALED.pattern}|[\w.~%!$^*+\-]++)"
    r"(@[\w.\-]++(?::\d++)?(?:/[\w.\-/]*+)?)",
    re.ASCII,
)
# As many hold one without a password, postgresql://user@host:5432/db, with a path in any script: nothing to hide. What
# stands there in https:// may be a token.
_URL_WITHOUT_PASSWORD = re.compile(
    r"(?![A-Za-z0-9+.\-:]*(?i:https?)://)(?:jdbc:)?[A-Za-z][A-Za-z0-9+.\-]*+://[A-Za-z0-9_.\-]++@[A-Za-z0-9_.\-]++(?::[0-9]++)?(?:/[\w.\-/]*+)?"
)
_SHORTEST_BEARER = len("Basic ") + 16
_MOST_ROUNDS = 4
_MOST_SECRETS = 1000
_MOST_HARMLESS = 4096

# The same texts are looked through again and again, in one request already. Those with a secret are not kept.
_harmless: set[str] = set()


def mask_text(text: str) -> str:
    """`text` with URL passwords, sensitive parameters and bearer tokens as `***`; the same text when it has none."""
    if text in _harmless:
        return text
    masked = _mask_text(text)
    if masked is text and len(text) <= _LONGEST_REMEMBERED:
        if len(_harmless) >= _MOST_HARMLESS:
            _harmless.clear()
        _harmless.add(text)
    return masked


def _mask_text(text: str) -> str:
    if not _may_hold_secret(text):
        return text
    if not _is_marked(text):
        if _URL_WITHOUT_PASSWORD.fullmatch(text):
            return text
        if plain := _PLAIN_URL.fullmatch(text):
            return f"{plain[1]}{MASK}{plain[3]}"
    # A masked text is masked no further. With ordinary text the second round proves it; a text built to need many
    # rounds, or to have secrets by the thousand, is hidden as a whole.
    for _ in range(_MOST_ROUNDS):
        secrets = find_secrets(text)
        masked = MASK if len(secrets) > _MOST_SECRETS else hide_secrets(text, secrets)
        if masked == text:
            return text
        text = masked
    return MASK


def _may_hold_secret(text: str) -> bool:
    if "=" in text or "@" in text or '"' in text or "'" in text or "fernet:" in text or _is_marked(text):
        return True
    if (":" in text or "：" in text) and next(_lines(text), None):
        return True
    return len(text) >= _SHORTEST_BEARER and _BEARER.search(text) is not None


def _is_marked(text: str) -> bool:
    return len(text) >= _SHORTEST_MARKED and _MARK.search(text) is not None


def find_secrets(text: str) -> list[Secret]:
    """The secrets in `text`, in order and apart from each other; also those that are `***` already.

    With more than `_MOST_SECRETS` it stops looking.
    """
    known = _apart(islice(chain(_sealed(text), _parameters(text), _lines(text), _tokens(text)), _MOST_SECRETS + 1))
    # The value of a parameter may hold "@" and "/"; they say nothing about the URL that it stands in.
    blanked = text if not known else hide_secrets(text, known, lambda secret: _BLANK * (secret.end - secret.begin))
    return _apart([*known, *islice(_url_passwords(blanked), _MOST_SECRETS + 1)])


def _sealed(text: str) -> Iterator[Secret]:
    """What is encrypted already; the label of a parameter or URL that has it as its value sorts first, and stays."""
    return (Secret(*found.span(), "~") for found in SEALED.finditer(text))


def _tokens(text: str) -> Iterator[Secret]:
    for found in _BEARER.finditer(text):
        if found["scheme"].lower() == "bearer" or _NOT_PROSE.search(found["token"]):
            yield Secret(found.start("token"), found.end(), "bearer")
    if "@" in text:
        for found in _URL_TOKEN.finditer(text):
            yield Secret(*found.span("token" if found["token"] else "basic"), "user")
    if _is_marked(text):
        yield from (Secret(*found.span(), "token") for found in _KNOWN_TOKEN.finditer(text))
        yield from (Secret(*found.span("path"), "webhook") for found in _WEBHOOK.finditer(text))
        yield from _private_keys(text)


def _private_keys(text: str) -> Iterator[Secret]:
    """What stands between the first and the last line of a key; to the end of the text when there is no last one."""
    done = 0
    while found := _PRIVATE_KEY.search(text, done):
        done = text.find("-----END", found.end())
        if done < 0:
            done = len(text)
        if done > found.end():
            yield Secret(found.end(), done, "key")


def _lines(text: str) -> Iterator[Secret]:
    """The values of settings and headers, one word on a line of their own: X-Api-Key: x, password: "x y"."""
    if ":" not in text and "：" not in text:
        return
    if "uthorization" in text or "UTHORIZATION" in text:
        for found in _AUTHORIZATION.finditer(text):
            yield Secret(*found.span("value"), "authorization")
    first = _FIRST_LINE.match(text)
    for found in chain([first] if first else [], _LINE.finditer(text)):
        begin, end = found.span("quoted" if found["quoted"] else "value")
        value, name = text[begin:end], found["name"]
        if is_sensitive_key(name) and value.lower() not in _NO_SECRETS and not _is_reference(name, value):
            yield Secret(begin, end, name.lower())


def _apart(secrets: Iterable[Secret]) -> list[Secret]:
    """The secrets in order; those that overlap become one."""
    apart: list[Secret] = []
    for secret in sorted(secrets):
        if apart and secret.begin < apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, secret.end))
        else:
            apart.append(secret)
    return apart


def hide_secrets(text: str, secrets: Iterable[Secret], instead: Callable[[Secret], str] = lambda _: MASK) -> str:
    """`text` with something else in the place of each secret."""
    parts = []
    done = 0
    for secret in secrets:
        parts += [text[done : secret.begin], instead(secret)]
        done = secret.end
    return "".join([*parts, text[done:]])


# --- Parameters: ?token=x  ;Password=x  host=h password='x'  {"password": "x"} ----------------------------------------

# A possessive quantifier and the look-behind start each name once: a long word without "=" is read once, not n times.
_NAME = re.compile(
    r"""(?<![\w.\-]) (?P<name> (?:(?i:access|account|api|auth|connection|private|service)[ ])? [\w.\-]++ )
        (?: [\\"'\])]*+ [ \t]*+ =(?!=\s) >?          # password=x  env["TOKEN"] = "x"  'password' => 'x'; not  a == b
          | \\*+ ["'] [ \t]*+ (?P<colon>:)           # "password": "x"
        ) [ \t]*+""",
    re.VERBOSE,
)
_QUOTED = {
    "'": re.compile(r"'(?:[^'\\]|\\.|'')*+'?", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\]|\\.|"")*+"?', re.DOTALL),
}
_ESCAPED_QUOTE = re.compile(r"\\++[\"']")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_AFTER_QUOTED = re.compile(r"[^\s&,;)\]}>\"'\\]\S*+")
_SCHEME = r"(?:(?i:apikey|basic|bearer|digest|token)[ \t]++)?"
_ENDS = {
    "json": re.compile(_SCHEME + r"[^\s,}\]]*+"),
    "line": re.compile(r"[^\n]*+"),
    "list": re.compile(r"[^;\n]*+"),
    "query": re.compile(_SCHEME + r"[^\s&]*+"),
    "query of a whole URL": re.compile(r"[^&\n]*+"),
    "words": re.compile(_SCHEME + r"(?:\\.|[^\s\\])*+\\?", re.DOTALL),
}
_WHOLE_URL = re.compile(r"\s{0,64}+[A-Za-z][\w+.:\-]{0,64}+(?<=:)//")
# Nothing to hide, just as under a sensitive key.
_NO_SECRETS = frozenset({"", "true", "false", "null", "none"})
_PLACEHOLDER = re.compile(r"\?|%s|[:$]\d+")
_REFERENCE = re.compile(r"(?:[:@$%({]++(?:\w++\.)*+|(?:\w++\.)++)(?P<name>\w++)[)}]*+s?")

_BEARER = re.compile(r"\b(?P<scheme>(?i:basic|bearer))[ \t]++(?P<token>\*\*\*(?![\w*])|[\w.~+/=\-]{16,}+)", re.ASCII)
# What follows "basic" is often a plain word; base64 of sixteen characters without capitals and digits does not occur.
_NOT_PROSE = re.compile(r"[A-Z0-9*]")
# What only stands in texts that hold one of the four below: looking for these takes no time.
_MARKS = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "k_live_", "k_test_", "AKIA", "ASIA"),
    *("pyapi_pat_", "hooks.slack", "/webhooks/", "-----BEGIN", "x-oauth-basic"),
)
_MARK = re.compile("|".join(map(re.escape, _MARKS)))
_SHORTEST_MARKED = 12
_KNOWN_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{8,}+|(?:github_pat_|pyapi_pat_|glpat-|xox[a-z]-|[rs]k_(?:live|test)_)"
    r"[\w\-]{8,}+|A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9]))",
    re.ASCII,
)
_WEBHOOK = re.compile(
    r"(?:hooks\.slack(?:-gov)?\.com/(?:services|triggers|workflows)/|discord(?:app)?\.com/api/webhooks/)"
    r"(?P<path>(?:\*\*\*|[\w/.:=~\-])++)",
    re.ASCII,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,64}PRIVATE KEY(?: BLOCK)?-----")
# https://TOKEN@host and https://TOKEN:x-oauth-basic@host; a user is shorter, or a plain word. Elsewhere it is a user.
_URL_TOKEN = re.compile(
    r"(?i:https?)://(?:(?=[a-z_\-]{0,256}[A-Z0-9])(?P<token>[\w\-]{16,256}+)@|(?P<basic>[^\s/?#@:]{1,256}+):x-oauth-basic@)",
    re.ASCII,
)
_AUTHORIZATION = re.compile(
    r"(?i:authorization)[\"']?[ \t]{0,8}+[:=][ \t]{0,8}+[\"']?(?i:apikey|basic|bearer|digest|token)[ \t]{1,8}+"
    r"(?P<value>[^\s\"',;]++)"
)
_SETTING = r"""[ \t]*+(?:-[ \t]++)?(?P<name>[\w.\-]++)[ \t]*+[:：][ \t]*+
    (?:"(?P<quoted>[^"\n]++)"|(?P<value>[^\s"']++))[ \t\r]*+(?=$|[\n"'])"""
_FIRST_LINE = re.compile(_SETTING, re.VERBOSE)
_LINE = re.compile(rf"""[\n"']{_SETTING}""", re.VERBOSE)
# Stands for a hidden character while the URLs are read; a code point that no text holds (Unicode, 23.7).
_BLANK = "\uffff"


def _parameters(text: str) -> Iterator[Secret]:
    """The values of the sensitive parameters: in a query, an ADO or libpq string, a settings line, JSON."""
    if "=" not in text and '"' not in text and "'" not in text:
        return
    done = 0
    while found := _NAME.search(text, done):
        done = found.end()
        name = found["name"]
        # A token ends with "=", too, and any word may stand in it by chance.
        if name.startswith("gAAAA") and text.endswith("fernet:", 0, found.start()):
            continue
        is_signature = name.lower() in _SIGNATURES and text[found.start() - 1 : found.start()] in {"?", "&"}
        if not is_signature and not is_sensitive_key(name):
            continue
        style = "json" if found["colon"] else _style(text, found.start())
        begin, end, after = _value(text, done, style)
        value = text[begin:end]
        if value.strip().lower() not in _NO_SECRETS and not _is_reference(name, value):
            yield Secret(begin, end, name.lower())
            done = after


def _style(text: str, begin: int) -> str:
    """How a value ends, by what stands before the name of its parameter (at `begin`)."""
    before = begin
    while before and text[before - 1] in " \t":
        before -= 1
    if before == 0:
        return "line" if "\n" in text else "first"
    match text[before - 1]:
        case ";":
            return "list"
        case "?" | "&":
            return "query of a whole URL" if _WHOLE_URL.match(text) else "query"
        case "\n":
            return "line"
        case _:
            return "words"


def _value(text: str, begin: int, style: str) -> tuple[int, int, int]:
    """Where the value that starts at `begin` lies, without its quotes, and where to read on."""
    opening = text[begin : begin + 1]
    if quoted := _QUOTED.get(opening):
        end = quoted.match(text, begin).end()  # type: ignore[union-attr]  # it matches from the opening quote on
        closed = end - 1 > begin and text[end - 1] == opening
        if closed and style != "json" and (tail := _AFTER_QUOTED.match(text, end)):
            return begin, tail.end(), tail.end()  # 'a'b is one word to a shell
        return (begin + 1, end - 1, end) if closed else (begin, end, end)
    if escaped := _ESCAPED_QUOTE.match(text, begin):
        end = _escaped_end(text, escaped.end(), escaped[0])
        return escaped.end(), end, end
    end = _closing(text, begin) if opening in ("{", "[") else begin
    if end == begin or style != "json":
        end = max(end, _unquoted_end(text, max(begin, end), style))
    return begin, end, end


def _escaped_end(text: str, begin: int, quote: str) -> int:
    r"""The end of a value between two `quote`s such as \\", as in JSON inside of JSON; of the text without a second."""
    end = text.find(quote, begin)
    while end > begin and text[end - 1] == "\\":  # a quote one level deeper, within the value
        end = text.find(quote, end + len(quote))
    return end if end >= 0 else len(text)


def _unquoted_end(text: str, begin: int, style: str) -> int:
    if style != "first":
        return _ENDS[style].match(text, begin).end()  # type: ignore[union-attr]  # each of them matches nothing too
    # "password=a b;Server=h" or "password=a;b host=h": nothing tells which, so the longer value is the safe one.
    words = _unquoted_end(text, begin, "words")
    return max(words, _unquoted_end(text, begin, "list")) if ";" in text[begin:] else words


def _closing(text: str, begin: int) -> int:
    """The end of the object or list that opens at `begin`; the end of the text when it never closes."""
    depth = 0
    for found in _BRACKET.finditer(text, begin):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _is_reference(name: str, value: str) -> bool:
    """A value that only names itself again, as SQL and templates do: token = t.token, password=:password, token=?."""
    bare = value.rstrip("),;")
    if _PLACEHOLDER.fullmatch(bare):
        return True
    reference = _REFERENCE.fullmatch(bare) or _REFERENCE.fullmatch(value)
    return reference is not None and reference["name"].lower() == name.rpartition(".")[2].lower()


# --- Passwords in URLs ------------------------------------------------------------------------------------------------

_BREAK = r"\s，。；、！？：「」『』（）《》〈〉【】"  # ends a URL: white space, and the punctuation of Chinese text
# A URL that starts afresh within a text; in "jdbc:postgresql://" at its first letter.
_URL = re.compile(rf"(?<![^{_BREAK},;|=&\"'`<(\[{{])[A-Za-z][\w+.\-]*+(?::(?!//)[\w+.\-]++)*+://")
_RUN = re.compile(rf"[^{_BREAK}]*+")
_CLOSING_QUOTE = {
    opening: re.compile(rf"(?<!\\){closing}(?![\w@])")
    for opening, closing in {'"': '"', "'": "'", "`": "`", "<": ">"}.items()
}
_PARAMETER = re.compile(r"[?;][\w .\-\[\]%]{1,64}=")
_AUTHORITY_END = re.compile(rf"[/?#]|{_PARAMETER.pattern}")
_UP_TO_COLON = re.compile(r"(?:[^:\[@]*+@)?+(?:\[[^\[\]]*+\])?+[^:]*+:")
_PORT = r"(?::(?:0|[1-9]\d{0,4}|[$<{]{0,3}(?i:port)[>}]{0,2}))?"
_HOSTS = re.compile(rf"(?:\[[^\[\]]*+\]|[^:,\[\]]*+){_PORT}(?:,(?:\[[^\[\]]*+\]|[^:,\[\]]*+){_PORT})*+")
_PUNCTUATION = re.compile(r"[)\]}>.,;:!'\"`]*+")
_DATABASE = re.compile(
    r"jdbc:|(?<![a-z0-9])(?:amqps?|clickhouse|cockroachdb|mariadb|mongodb|mssql|mysql|oracle|postgres|postgresql|rediss?"
    r"|redshift|snowflake|sqlserver|trino|valkeys?|vertica)(?:\+[\w+.\-]*)?$"
)
_ORACLE_THIN = re.compile(r"(?i:jdbc:oracle):\w{1,16}:[^/@\s]{1,128}/")
_MOST_NESTED = 32
_LONGEST_TAIL = 256


def _url_passwords(text: str) -> Iterator[Secret]:
    """The passwords of the URLs in `text`, where the secrets that are known already are `_BLANK`s."""
    if "@" not in text and _BLANK not in text:
        return
    if "://" in text:
        cuts = [0, *(found.start() for found in _URL.finditer(text)), len(text)]
        for begin, end in pairwise(cuts):
            if text.find("@", begin, end) >= 0 or text.find(_BLANK, begin, end) >= 0:
                yield from _passwords_between(text, begin, end)
    if "oracle" in text.lower() and _ORACLE_THIN.search(text):
        for run in _RUN.finditer(text):
            user = _ORACLE_THIN.search(text, *run.span())
            if user and user.end() < (at := text.rfind("@", *run.span())):
                yield Secret(user.end(), at, "@")


def _passwords_between(text: str, begin: int, stop: int) -> Iterator[Secret]:
    """The passwords in a part of `text` that starts with a URL; one more may be nested in it: `?https://u:p@h`."""
    done = begin
    run_end = begin
    nested = 0
    while (mark := text.find("://", done, stop)) >= 0:
        if mark >= run_end:
            nested = 0
            run_end, quoted = _run_end(text, mark + 3, begin, stop)
        nested += 1
        if nested > _MOST_NESTED:
            yield Secret(mark + 3, run_end, "@")  # keeps the work linear; nobody writes this
            done = run_end
        elif password := _password(text, mark, run_end, run_end if quoted else stop):
            yield password
            done = max(run_end, password.end)
        else:
            done = mark + 3


def _run_end(text: str, start: int, url: int, stop: int) -> tuple[int, bool]:
    """Where the URL that begins at `url` ends at the latest, and whether a closing quote says so."""
    end = _RUN.match(text, start, stop).end()  # type: ignore[union-attr]  # it matches nothing too
    closing = _CLOSING_QUOTE.get(text[url - 1 : url])
    if closing and (quote := closing.search(text, start, end)):
        return quote.start(), True
    return end, False


def _password(text: str, mark: int, run_end: int, stop: int) -> Secret | None:
    """The password of the URL whose "://" is at `mark`: from the first colon to the last "@" of the URL.

    Passwords are written with a bare "/", "?", "#", "@" or ":" in them, and then only a port tells a password from a
    host: `https://host:8080/p@x` has none, `https://user:80a/p@x` has one. To the drivers of databases, whose paths
    hold no "@", the former is a password as well.
    """
    start = mark + 3
    if text.find("@", start, min(stop, run_end + _LONGEST_TAIL)) < 0 and text.find(_BLANK, start, run_end) < 0:
        return None
    up_to_colon = _UP_TO_COLON.match(text, start, run_end)
    if not up_to_colon:
        return None
    password = up_to_colon.end()
    authority = _end_of(_AUTHORITY_END, text, start, run_end)
    has_password = text.find("@", password, authority) >= 0
    if not has_password and (password > authority or _is_port(text, start, password, authority, run_end)):
        path_end = _end_of(_PARAMETER, text, start, run_end)
        if text.rfind("@", password, path_end) < 0 or not _DATABASE.search(text[max(0, mark - 48) : mark].lower()):
            return None
    at = text.rfind("@", password, run_end)
    if at < 0:
        at = _open_end(text, password, run_end, stop)
    return Secret(password, at, "@") if at > password else None


def _end_of(pattern: re.Pattern[str], text: str, start: int, stop: int) -> int:
    found = pattern.search(text, start, stop)
    return found.start() if found else stop


def _is_port(text: str, start: int, after_colon: int, authority: int, run_end: int) -> bool:
    """Whether the authority is hosts with ports, `h1:5432,[::1]:5433`, maybe with punctuation of the sentence."""
    host = max(start, text.rfind("@", start, after_colon) + 1)
    end = _HOSTS.match(text, host, authority).end()  # type: ignore[union-attr]  # it matches nothing too
    if authority == run_end:
        end = _PUNCTUATION.match(text, end, authority).end()  # type: ignore[union-attr]  # as above
    return end == authority


def _open_end(text: str, password: int, run_end: int, stop: int) -> int:
    """The end of a password whose "@" is not in its URL; -1 when this is no password after all."""
    if _BLANK in text[password:run_end]:
        return run_end  # "u:a?token=b@h": the "@" is in what was taken for a parameter
    # "user:my password@host": the drivers accept the space. The look ahead is bounded to keep the work linear.
    stop = min(stop, run_end + _LONGEST_TAIL)
    line_end = text.find("\n", run_end, stop)
    at = text.find("@", run_end, line_end if line_end >= 0 else stop)
    if at < 0 or run_end == password:
        return -1
    return text.rfind("@", at, _RUN.match(text, at).end())  # type: ignore[union-attr]  # it matches nothing too
