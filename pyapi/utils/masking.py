"""Hides the credentials inside a record's `config`, and puts the stored ones back when a masked config is written.

Two places hold credentials: the value of a key with a sensitive name, and a part of a text (the password of a URL, a
sensitive parameter, a bearer token). What is unclear is hidden: a text that shows too little can be written again,
a password that has been shown cannot be taken back. Everything here is linear in the size of what it reads.
"""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from pyapi.exceptions import FieldError

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"

MASK = "***"
CUT = "…"
MAX_DEPTH = 64

NOTHING_STORED = "'***' stands for a stored secret, and there is none here. Write the secret itself."
TARGET_CHANGED = "The address or the user that this secret belongs to has changed. Write the password or token again."
TEXT_CHANGED = "This text has changed around its hidden secret. Write the whole text with its password or token again."
LOOK_ALIKE = "With their secrets hidden, several entries of this list look alike. Write the secret of this one again."
NOT_STORABLE = "What is stored here cannot be written back (nested too deeply, or not a number). Write it again."


# --- Names of keys ----------------------------------------------------------------------------------------------------

# Airflow's DEFAULT_SENSITIVE_FIELDS, and four more of ours. They match anywhere in a name, as in Airflow.
_SENSITIVE_NAMES = (
    *("access_key", "access_token", "api_key", "apikey", "auth_header", "authorization", "bearer", "connection_string"),
    *("passphrase", "passwd", "password", "private_key", "proxy", "proxy_password", "proxies", "secret"),
    *("service_account", "service_key", "token", "keyfile_dict", "webhook_url", "credential", "account_key"),
)
_SENSITIVE = re.compile("|".join(name.replace("_", "") for name in _SENSITIVE_NAMES))
# Too short to match inside a word: sas is in "saskatoon", dsn in "adsnetwork".
_SENSITIVE_WORDS = frozenset({"dsn", "pwd", "sas"})
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
    if _SENSITIVE.search(_NOT_ALPHANUMERIC.sub("", key.lower())):
        return True
    return any(word.lower() in _SENSITIVE_WORDS for word in _WORD.findall(key))


def _is_connection_key(key: str) -> bool:
    return bool(_CONNECTION.search("_".join(_WORD.findall(key)).lower()))


# --- Secrets inside a text --------------------------------------------------------------------------------------------


class _Secret(NamedTuple):
    """`text[begin:end]` is a secret; `label` is the name of its parameter, or "@" for the password of a URL."""

    begin: int
    end: int
    label: str


# What most records hold, postgresql://user:password@host:5432/db, in a thirtieth of the time that the rest of this part
# takes to hide the same.
_PLAIN_URL = re.compile(
    r"([\w+.\-]++(?::[\w+.\-]++)*+://[\w.\-]*+:)[\w.~%!$^*+\-]++(@[\w.\-]++(?::\d++)?(?:/[\w.\-/]*+)?)", re.ASCII
)
_SHORTEST_BEARER = len("Basic ") + 16
_MOST_ROUNDS = 4
_MOST_SECRETS = 1000


def mask_text(text: str) -> str:
    """`text` with URL passwords, sensitive parameters and bearer tokens as `***`; the same text when it has none."""
    if not _may_hold_secret(text):
        return text
    if plain := _PLAIN_URL.fullmatch(text):
        return f"{plain[1]}{MASK}{plain[2]}"
    # A masked text is masked no further. With ordinary text the second round proves it; a text built to need many
    # rounds, or to have secrets by the thousand, is hidden as a whole.
    for _ in range(_MOST_ROUNDS):
        secrets = _secrets(text)
        masked = MASK if len(secrets) > _MOST_SECRETS else _hide(text, secrets)
        if masked == text:
            return text
        text = masked
    return MASK


def _may_hold_secret(text: str) -> bool:
    if "=" in text or "@" in text or '"' in text or "'" in text:
        return True
    return len(text) >= _SHORTEST_BEARER and _BEARER.search(text) is not None


def _secrets(text: str) -> list[_Secret]:
    """The secrets in `text`, in order and apart from each other; also those that are `***` already.

    With more than `_MOST_SECRETS` it stops looking.
    """
    known = _apart(islice(chain(_parameters(text), _tokens(text)), _MOST_SECRETS + 1))
    # The value of a parameter may hold "@" and "/"; they say nothing about the URL that it stands in.
    blanked = text if not known else _hide(text, known, lambda secret: _BLANK * (secret.end - secret.begin))
    return _apart([*known, *islice(_url_passwords(blanked), _MOST_SECRETS + 1)])


def _tokens(text: str) -> Iterator[_Secret]:
    for found in _BEARER.finditer(text):
        if found["scheme"].lower() == "bearer" or _NOT_PROSE.search(found["token"]):
            yield _Secret(found.start("token"), found.end(), "bearer")


def _apart(secrets: Iterable[_Secret]) -> list[_Secret]:
    """The secrets in order; those that overlap become one."""
    apart: list[_Secret] = []
    for secret in sorted(secrets):
        if apart and secret.begin < apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, secret.end))
        else:
            apart.append(secret)
    return apart


def _hide(text: str, secrets: Iterable[_Secret], instead: Callable[[_Secret], str] = lambda _: MASK) -> str:
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
# Stands for a hidden character while the URLs are read; a code point that no text holds (Unicode, 23.7).
_BLANK = "\uffff"


def _parameters(text: str) -> Iterator[_Secret]:
    """The values of the sensitive parameters: in a query, an ADO or libpq string, a settings line, JSON."""
    if "=" not in text and '"' not in text and "'" not in text:
        return
    done = 0
    while found := _NAME.search(text, done):
        done = found.end()
        name = found["name"]
        if not is_sensitive_key(name):
            continue
        style = "json" if found["colon"] else _style(text, found.start())
        begin, end, after = _value(text, done, style)
        value = text[begin:end]
        if value.strip().lower() not in _NO_SECRETS and not _is_reference(name, value):
            yield _Secret(begin, end, name.lower())
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


def _url_passwords(text: str) -> Iterator[_Secret]:
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
                yield _Secret(user.end(), at, "@")


def _passwords_between(text: str, begin: int, stop: int) -> Iterator[_Secret]:
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
            yield _Secret(mark + 3, run_end, "@")  # keeps the work linear; nobody writes this
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


def _password(text: str, mark: int, run_end: int, stop: int) -> _Secret | None:
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
    return _Secret(password, at, "@") if at > password else None


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


# --- Whole values -----------------------------------------------------------------------------------------------------


def mask_secrets(value: JSON) -> JSON:
    """A copy of `value` without credentials; `value` stays as it is.

    Under a sensitive key a number, a text, a list or an object becomes `***`; a boolean, null and the empty text
    hide nothing and stay. An object or list below level 64 becomes "…": the API takes no deeper ones, but plain SQL
    can store some that neither Python's recursion nor the JSON writer would survive. A number that JSON does not
    have (1e400 reads as infinity) becomes null.
    """
    return _mask(value, 1)


def _mask(value: JSON, depth: int) -> JSON:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict | list):
        return _mask_below(value, depth) if depth <= MAX_DEPTH else CUT
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mask_below(value: dict[str, JSON] | list[JSON], depth: int) -> JSON:
    if isinstance(value, list):
        return [_mask(below, depth + 1) for below in value]
    return {
        key: _mask_whole(below) if is_sensitive_key(key) else _mask(below, depth + 1) for key, below in value.items()
    }


def _mask_whole(value: JSON) -> JSON:
    if value is None or isinstance(value, bool) or value == "":
        return value
    return None if isinstance(value, float) and not math.isfinite(value) else MASK


def restore_secrets(new: JSON, stored: JSON) -> tuple[JSON, list[FieldError]]:
    """`new` with each `***` replaced by the secret that `mask_secrets(stored)` hides there, and what stands against it.

    A secret only goes back to the place it was taken from, beside the same address and user: otherwise whoever may
    change a record could have its password sent to a server of their choice. The pointers are relative to the config
    (RFC 6901). The value may share parts with `new` and `stored`; with errors it is not to be written.
    """
    if not _mentions_hidden(new):
        return new, []
    restoration = _Restoration()
    value = restoration.value(new, stored, mask_secrets(stored), _Place())
    return value, restoration.errors


_MOST_ERRORS = 32


class _Place(NamedTuple):
    """Where a value stands; `moved`: an address or user beside or above it is not the stored one."""

    above: "_Place | None" = None
    key: str | int = ""
    depth: int = 1
    moved: bool = False

    def below(self, key: str | int, *, moved: bool = False) -> "_Place":
        return _Place(self, key, self.depth + 1, self.moved or moved)

    def pointer(self) -> str:
        """The place as RFC 6901 writes it; built when it is asked for, since keys may be long and errors are few."""
        if self.above is None:
            return ""
        return f"{self.above.pointer()}/{str(self.key).replace('~', '~0').replace('/', '~1')}"


_Partners: TypeAlias = dict[int, int | None]


class _Restoration:
    """One walk over a new value, the stored one and its masked form. What is absent is None, as null hides nothing."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._alike = _Alike()

    def _refuse(self, detail: str, place: _Place) -> None:
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append(FieldError(detail, place.pointer()))

    def value(self, new: JSON, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """`new` with its secrets; `masked` is the masked form of `stored`."""
        if isinstance(new, str):
            return self._text(new, stored, masked, place)
        if place.depth > MAX_DEPTH:
            return new
        if isinstance(new, dict):
            return self._object(new, stored, masked, place)
        if isinstance(new, list):
            return self._list(new, stored, masked, place)
        return new

    def _object(self, new: dict[str, JSON], stored: JSON, masked: JSON, place: _Place) -> JSON:
        if not isinstance(stored, dict) or not isinstance(masked, dict):
            stored, masked = {}, {}
        moved = self._is_moved(new, stored, masked)
        restored: dict[str, JSON] = {}
        for key, value in new.items():
            walk = self._secret if is_sensitive_key(key) else self.value
            restored[key] = walk(value, stored.get(key), masked.get(key), place.below(key, moved=moved))
        return restored

    def _is_moved(self, new: dict[str, JSON], stored: dict[str, JSON], masked: dict[str, JSON]) -> bool:
        names = {key for key in (*new, *stored) if _is_connection_key(key)}
        number = self._alike.number
        return any(number(new.get(name)) not in (number(masked.get(name)), number(stored.get(name))) for name in names)

    def _secret(self, new: JSON, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """The value of a sensitive key: kept as a whole, or new as a whole."""
        if new == MASK:
            if masked != MASK:
                self._refuse(NOTHING_STORED, place)
            elif place.moved:
                self._refuse(TARGET_CHANGED, place)
            elif not _is_storable(stored, place.depth):
                self._refuse(NOT_STORABLE, place)
            else:
                return stored
        elif isinstance(new, dict | list) and place.depth <= MAX_DEPTH:
            # Nothing in here was ever shown, so a "***" in here stands for nothing that is stored.
            for key, value in new.items() if isinstance(new, dict) else enumerate(new):
                self._secret(value, None, None, place.below(key))
        elif isinstance(new, str):
            return self._text(new, None, None, place)
        return new

    def _text(self, new: str, stored: JSON, masked: JSON, place: _Place) -> JSON:
        if new == CUT == masked and stored != CUT:
            self._refuse(NOT_STORABLE, place)
            return new
        if MASK not in new or new == stored:
            return new
        if new == masked and not place.moved and isinstance(stored, str):
            return stored
        return self._changed_text(new, stored, masked, place)

    def _changed_text(self, new: str, stored: JSON, masked: JSON, place: _Place) -> JSON:
        """A text with "***" in it that is not what was shown, or that stands beside another address than before."""
        kept = _kept(new)
        if not isinstance(stored, str) or masked == stored:
            if kept:
                self._refuse(NOTHING_STORED, place)
        elif place.moved and not _names_its_host(new, kept):
            self._refuse(TARGET_CHANGED, place)
        elif (merged := stored if new == masked else _merge_url(new, stored)) is None:
            self._refuse(TEXT_CHANGED, place)
        else:
            return merged
        return new

    def _list(self, new: list[JSON], stored: JSON, masked: JSON, place: _Place) -> JSON:
        if not isinstance(stored, list) or not isinstance(masked, list):
            stored, masked = [], []
        partners, unclear = self._partners(new, stored, masked)
        restored: list[JSON] = []
        for index, value in enumerate(new):
            here = place.below(index)
            if index in unclear:
                self._refuse(LOOK_ALIKE, here)
                restored.append(value)
                continue
            partner = partners.get(index)
            counterpart = (None, None) if partner is None else (stored[partner], masked[partner])
            restored.append(self.value(value, *counterpart, here))
        return restored

    def _partners(self, new: list[JSON], stored: list[JSON], masked: list[JSON]) -> tuple[_Partners, set[int]]:
        """Which stored entry each new one continues (by index), and the new ones for which several could be meant."""
        partners: _Partners = {}
        unclear: set[int] = set()
        new_places = self._alike.places(new)
        for number, old in self._alike.places(masked).items():
            fresh = new_places.get(number, [])
            both = sorted(set(fresh) & set(old))
            only_new, only_old = sorted(set(fresh) - set(old)), sorted(set(old) - set(fresh))
            if len({self._alike.number(stored[index]) for index in old}) == 1:
                partners.update(dict.fromkeys(fresh))  # one more than before is a copy, and continues nothing
                partners.update(zip([*both, *only_new], [*both, *only_old], strict=False))
            elif len(old) == len(fresh):
                partners.update(zip(fresh, old, strict=True))  # they differ in nothing that can be seen: order counts
            elif len(new) == len(stored):
                partners.update(zip(both, both, strict=True))
                unclear.update(only_new)
            else:
                unclear.update(fresh)
        if len(new) == len(stored):
            claimed = {*partners, *partners.values(), *unclear}
            partners.update((index, index) for index in range(len(new)) if index not in claimed)
        return partners, unclear


class _Alike:
    """Gives equal JSON values equal numbers, in one pass over each tree. 1, 1.0 and true are not equal here."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, tuple[JSON, int]] = {}  # by id(); it holds the value, so that the id stays its own

    def places(self, values: list[JSON]) -> dict[int, list[int]]:
        """The indices at which each value stands, by its number."""
        places: dict[int, list[int]] = {}
        for index, value in enumerate(values):
            places.setdefault(self.number(value), []).append(index)
        return places

    def number(self, value: JSON, depth: int = 1) -> int:
        """The number of `value`; what is nested too deeply is like nothing else."""
        if not isinstance(value, dict | list):
            return self._numbers.setdefault((type(value), value), len(self._numbers))
        if id(value) in self._known:
            return self._known[id(value)][1]
        shape: Hashable
        if depth > MAX_DEPTH:
            shape = object()
        elif isinstance(value, dict):
            shape = frozenset((key, self.number(below, depth + 1)) for key, below in value.items())
        else:
            shape = tuple(self.number(below, depth + 1) for below in value)
        number = self._numbers.setdefault(shape, len(self._numbers))
        self._known[id(value)] = value, number
        return number


def _mentions_hidden(value: JSON) -> bool:
    """Whether there is a `***` or a "…" anywhere in the texts of `value`."""
    return any(isinstance(below, str) and (MASK in below or below == CUT) for below, _ in _walk(value))


def _is_storable(value: JSON, depth: int) -> bool:
    """Whether JSON can hold `value`, at this depth of a config, within the limits of the API."""
    for below, level in _walk(value, depth):
        if isinstance(below, dict | list) and level > MAX_DEPTH:
            return False
        if isinstance(below, float) and not math.isfinite(below):
            return False
    return True


def _walk(value: JSON, depth: int = 1) -> Iterator[tuple[JSON, int]]:
    """Every value in `value` with its depth, without recursion: what plain SQL has stored may be thousands deep."""
    waiting = [(value, depth)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, dict | list):
            waiting.extend((below, depth + 1) for below in (value.values() if isinstance(value, dict) else value))


# --- A text that changed around its secret ----------------------------------------------------------------------------

_HEAD = re.compile(r"[^\s/?#;]*://[^\s/?#;]*+")
_HOST = re.compile(r"://[^\s/?#;]")
_MOST_CONNECTION_PARAMETERS = 16
_ANY_NAME = re.compile(r"(?<![\w.\-%])([\w.\-%]++)[ \t]*+=")


def _kept(text: str) -> list[_Secret]:
    """The secrets of `text` that are "***"."""
    return [secret for secret in _secrets(text) if text[secret.begin : secret.end] == MASK]


def _names_its_host(text: str, kept: list[_Secret]) -> bool:
    """Whether a URL says where the secrets of `text` go, so that the fields beside it do not."""
    host = _HOST.search(text)
    return host is not None and bool(kept) and host.start() < kept[0].begin


def _merge_url(new: str, stored: str) -> str | None:
    """`new` with the secrets of `stored` where it has `***`; None unless only path, query or database changed.

    Scheme, user, host and port are compared as the masked texts show them, and the parameters that can stand for
    them (`?host=`, `;serverName=`) too. With a second URL or a second "@" nobody can say what the host is.
    """
    if new.count("://") != 1:
        return None
    heads = []
    tails = []
    for text in (new, stored):
        masked = _hide(text, _secrets(text))
        head = _HEAD.match(masked)
        if not head or masked != mask_text(text):
            return None
        heads.append(head[0])
        tails.append(masked[head.end() :])
    if heads[0] != heads[1] or any("@" in tail or "://" in tail for tail in tails):
        return None
    parameters = [_connection_parameters(tail) for tail in tails]
    if None in parameters or parameters[0] != parameters[1]:
        return None
    merged = _fill_in(new, stored)
    # What goes back must be hidden again where it now stands.
    return merged if merged is not None and mask_text(merged) == mask_text(new) else None


def _connection_parameters(tail: str) -> list[str] | None:
    """Every parameter that names an address or a user, with its value; None when there are more than anybody needs."""
    names = (found for found in _ANY_NAME.finditer(tail) if _is_connection_key(unquote(found[1])))
    found = list(islice(names, _MOST_CONNECTION_PARAMETERS + 1))
    if len(found) > _MOST_CONNECTION_PARAMETERS:
        return None
    return sorted(re.split(r"[&;]", tail[name.start() :], maxsplit=1)[0] for name in found)


def _fill_in(new: str, stored: str) -> str | None:
    """`new` with each `***` replaced by the secret of `stored` under the same label, if each label has just one."""
    known = _secrets(stored)
    values = {secret.label: stored[secret.begin : secret.end] for secret in known}
    kept = _kept(new)
    labels = {secret.label for secret in kept}
    if not kept or len(values) < len(known) or len(labels) < len(kept) or not labels <= values.keys():
        return None
    return _hide(new, kept, lambda secret: values[secret.label])
