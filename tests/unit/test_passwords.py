"""Passwords: which are hashed, which fit, which are refused, and that one login costs one hash."""

import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import bcrypt
import pytest
import zxcvbn as zxcvbn_module
from hypothesis import given, settings
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from pyapi.utils.auth import PasswordHasher, password_weakness

HASHER = PasswordHasher(rounds=4)
PASSWORD = "SecurePass123"
HASHED = HASHER.hash(PASSWORD)
NO_HASHES = {
    "empty": "",
    "word": "broken",
    "the password itself": PASSWORD,
    "cut": HASHED[:-1],
    "longer": HASHED + "a",
    "newline": HASHED + "\n",
    "plain bcrypt": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
    "other scheme": "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWRWJTmaaJObG",
    "first version": HASHED.replace("v=2,t=2b,r=", "2b,"),
    "cost 0": HASHED.replace("r=4", "r=0"),
    "cost 3": HASHED.replace("r=4", "r=3"),
    "cost 04": HASHED.replace("r=4", "r=04"),
    "cost 32": HASHED.replace("r=4", "r=32"),
    "cost of no number": HASHED.replace("r=4", "r=x"),
    "salt with unused bits": HASHED[:49] + "z" + HASHED[50:],
    "digest with unused bits": HASHED[:-1] + "z",
    "salt of other letters": HASHED[:28] + "!" * 22 + HASHED[50:],
    "no digest": HASHED.rpartition("$")[0],
    "NUL": HASHED[:-1] + "\0",
    "lone surrogate": HASHED[:-1] + "\ud800",
    "not ASCII": HASHED[:-1] + "é",
}
ODD_PASSWORDS = {
    "empty": "",
    "NUL": "\0",
    "NUL inside": f"{PASSWORD}\0",
    "4,096 characters": "x" * 4096,
    "4,097 characters": "x" * 4097,
    "1,000,000 characters": "x" * 1_000_000,
    "grows over 4,096 in NFC": "\ufb1d" * 4000,
    "lone surrogate": "\ud800",
    "lone surrogate inside": f"{PASSWORD}\udfff",
}


@pytest.fixture
def hashings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went into bcrypt, once for each hash computed."""
    seen: list[bytes] = []
    compute = bcrypt.hashpw

    def spy(password: bytes, salt: bytes) -> bytes:
        seen.append(salt)
        return compute(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", spy)
    return seen


# --- hash and verify ---


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "x" * 8,
        "密" * 64,
        "𠮷" * 128,
        "🐘🦣🐘🦣🐘🦣🐘🦣",
        "كلمة المرور الطويلة",
        "tab\tnewline\nreturn\r",
        "  spaces outside  ",
        "x" * 4096,
        "",
    ],
)
def test_only_the_password_itself_fits(password: str) -> None:
    hashed = HASHER.hash(password)
    assert HASHER.verify(password, hashed)
    for other in (password + "x", password + " ", " " + password, password[:-1] or "x", password.swapcase() + "!"):
        assert not HASHER.verify(other, hashed)


def test_nothing_is_cut_at_72_bytes() -> None:
    """Plain bcrypt reads 72 bytes and ignores the rest: 24 Chinese characters."""
    stems = ["p" * 72, "p" * 73, "p" * 74, "密" * 24, "密" * 25, "密" * 64]
    tails = ["", "a", "b", "ab", "密"]
    passwords = sorted({stem + tail for stem in stems for tail in tails})
    hashes = [HASHER.hash(password) for password in passwords]
    for (password, _), (_, hashed) in combinations(zip(passwords, hashes, strict=True), 2):
        assert not HASHER.verify(password, hashed)
    assert all(map(HASHER.verify, passwords, hashes))


def test_composed_and_decomposed_text_is_one_password() -> None:
    for text in ("Crème-brûlée", "파스타와 김치찌개", "Łódź ñandú", "が行のカ\u3099"):
        composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
        assert HASHER.verify(decomposed, HASHER.hash(composed))
        assert HASHER.verify(composed, HASHER.hash(decomposed))


def test_compatible_text_is_another_password() -> None:
    """NFKC would make them equal, and so lose what the author typed."""
    assert not HASHER.verify("password1", HASHER.hash("ｐassword1"))
    assert not HASHER.verify("2 fish", HASHER.hash("² fish"))


def test_hash_has_the_agreed_form() -> None:
    assert HASHED.startswith("$bcrypt-sha256$v=2,t=2b,r=4$")
    assert len(HASHED) == 82
    assert HASHER.hash(PASSWORD) != HASHED


def test_default_cost_is_12() -> None:
    hashed = PasswordHasher().hash(PASSWORD)
    assert hashed.startswith("$bcrypt-sha256$v=2,t=2b,r=12$")
    assert len(hashed) == 83


@pytest.mark.parametrize("name", [name for name in ODD_PASSWORDS if name not in ("empty", "4,096 characters")])
def test_hash_refuses_what_it_could_not_compare(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        HASHER.hash(ODD_PASSWORDS[name])
    assert caught.type is ValueError
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("hashed", [HASHED, None, *NO_HASHES.values()], ids=["good", "nobody", *NO_HASHES])
@pytest.mark.parametrize(
    "password", [PASSWORD, "wrong", *ODD_PASSWORDS.values()], ids=["right", "wrong", *ODD_PASSWORDS]
)
def test_every_answer_costs_one_hash(password: str, hashed: str | None, hashings: list[bytes]) -> None:
    assert HASHER.verify(password, hashed) is (password == PASSWORD and hashed == HASHED)
    assert [salt[:7] for salt in hashings] == [b"$2b$04$"]


def test_stored_cost_is_the_one_that_counts_and_nobody_costs_ours(hashings: list[bytes]) -> None:
    dearer = PasswordHasher(rounds=5)
    assert dearer.verify(PASSWORD, HASHED)
    assert not dearer.verify("\0", HASHED)
    assert not dearer.verify(PASSWORD, None)
    assert not dearer.verify(PASSWORD, "broken")
    assert [salt[:7] for salt in hashings] == [b"$2b$04$", b"$2b$04$", b"$2b$05$", b"$2b$05$"]


def test_first_login_of_a_process_costs_one_hash() -> None:
    """passlib tests its backend with ten hashes when it is first used."""
    program = """if True:
        import bcrypt
        from pyapi.utils.auth import PasswordHasher
        hasher, compute, seen = PasswordHasher(rounds=4), bcrypt.hashpw, []
        bcrypt.hashpw = lambda password, salt: seen.append(salt) or compute(password, salt)
        hasher.verify("SecurePass123", None)
        print(len(seen))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_nobody_is_never_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the dummy hash, a broken hash or an unusable password should match."""
    monkeypatch.setattr("passlib.context.CryptContext.verify", lambda *args: True)
    assert HASHER.verify(PASSWORD, HASHED)
    assert not HASHER.verify(PASSWORD, None)
    assert not HASHER.verify(PASSWORD, "broken")
    assert not HASHER.verify("\0", HASHED)


@given(st.text(st.characters(), max_size=30), st.none() | st.text(st.characters(), max_size=90))
@settings(deadline=None, max_examples=60)
def test_verify_raises_nothing(password: str, hashed: str | None) -> None:
    assert HASHER.verify(password, hashed) is False


@given(st.text(st.characters(), max_size=20), st.integers(0, 81))
@settings(deadline=None, max_examples=100)
def test_hash_with_a_wrong_part_fits_nothing(part: str, position: int) -> None:
    changed = HASHED[:position] + part + HASHED[position + 1 :]
    if "r=4$" in changed[:28]:  # not another cost: that could take hours
        assert HASHER.verify(PASSWORD, changed) is (changed == HASHED)


def test_long_runs_of_marks_take_no_time() -> None:
    """NFC sorts them, in quadratic time: 40,000 take seconds."""
    password = "a" + "\u0316\u0301" * 20_000
    start = time.process_time()
    assert not HASHER.verify(password, HASHED)
    assert password_weakness(password) is not None
    assert time.process_time() - start < 0.25


def test_threads_share_a_hasher() -> None:
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(HASHER.verify(PASSWORD + "x" * (n % 2), HASHED)))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 10 + [True] * 10


def test_needs_rehash() -> None:
    assert not HASHER.needs_rehash(HASHED)
    assert PasswordHasher(rounds=5).needs_rehash(HASHED)
    assert HASHER.needs_rehash(PasswordHasher(rounds=5).hash(PASSWORD))
    for text in NO_HASHES.values():
        assert HASHER.needs_rehash(text)


# --- which passwords are acceptable ---


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "correct horse battery staple",
        "internationalization rocks",
        "Tr0ub4dor&3",
        "xK9$mQ2v",
        "我家住在台北市大安區和平東路",
        "長長的密碼是很好的",
        "白日依山盡黃河入海流欲窮千里目更上一層樓" * 3,
        "台北101大樓很高的",
        "пароль моей бабушки",
        "おばあさんの秘密の言葉",
        "🐘🦣🐘🦩🐊🐢🦎🦕",
        "kQ7!vR2@" * 3 + "zW",
        " leading and trailing ",
        "".join(chr(0x4E00 + 97 * n) for n in range(128)),
        "x7Kp" + "q" * 20 + "9Lm",
    ],
)
def test_good_password(password: str) -> None:
    assert password_weakness(password) is None
    assert password_weakness(unicodedata.normalize("NFD", password)) is None


@pytest.mark.parametrize(
    "password",
    [
        "密" * 64,
        "密" * 128,
        "a" * 20,
        "ab" * 30,
        "密碼密碼密碼密碼",
        " " * 12,
        "abcdefgh1",
        "Passw0rd!",
        "P@$$w0rd",
        "drowssap1",
        "1990-12-31",
        "zxcvbnm,./",
        "aaaaaaaabbbbbbbb",
        "0123456789" * 10,
        "qwertyuiop" * 12,
    ],
)
def test_password_that_is_guessed_at_once(password: str) -> None:
    assert "harder to guess" in (password_weakness(password) or "")


@pytest.mark.parametrize(
    ("password", "length"), [("", 0), ("xK9$mQ2", 7), ("密碼很難猜到", 6), ("e\u0301a\u0301o\u0301x9!Z", 7)]
)
def test_short_password(password: str, length: int) -> None:
    assert len(unicodedata.normalize("NFC", password)) == length
    assert password_weakness(password) == "Use at least 8 characters."


@pytest.mark.parametrize("length", [129, 4096, 4097, 1_000_000])
def test_long_password(length: int) -> None:
    password = ("xK9$mQ2v密" * (length // 9 + 1))[:length]
    assert password_weakness(password) == "Use at most 128 characters."


def test_length_is_counted_in_nfc() -> None:
    decomposed = unicodedata.normalize("NFD", "".join(chr(0xAC00 + 28 * n) + "!"[: n % 2] for n in range(84)))
    assert len(decomposed) > 128
    assert len(unicodedata.normalize("NFC", decomposed)) == 126
    assert password_weakness(decomposed) is None


@pytest.mark.parametrize("odd", ["\0", chr(0xD800), chr(0xDFFF)], ids=ascii)
def test_password_that_cannot_be_kept(odd: str) -> None:
    for password in (PASSWORD + odd, odd + PASSWORD, odd * 10):
        assert password_weakness(password) == "Leave out NUL characters and halves of surrogate pairs."


def test_common_passwords_are_refused_in_any_case() -> None:
    common = [word for word in FREQUENCY_LISTS["passwords"][:10_000] if len(word) >= 8]
    assert len(common) >= 3000  # OWASP ASVS 5, 6.2.4
    for word in common:
        for spelling in (word, word.upper(), word.title()):
            assert "most common" in (password_weakness(spelling) or "")


def test_word_behind_the_ten_thousandth_is_not_called_common() -> None:
    rare = next(word for word in FREQUENCY_LISTS["passwords"][10_000:] if len(word) >= 8)
    assert "most common" not in (password_weakness(rare) or "")


@pytest.mark.parametrize(
    "password",
    [
        "johndoe",
        "johndoe!",
        "johndoe2024",
        "JohnDoe2024",
        "2024-JOHNDOE",
        "johndoe-doe-x",
        "john@example.com",
        "John@Example.com!",
        "example-2024",
        "StraßeAA",
        "STRASSEaa",
        "王小明王小明王小明",
        "王小明12345678",
        "eodnhoj1",
        "j0hnd0e!",
    ],
)
def test_password_made_of_the_users_own_name(password: str) -> None:
    own = ("johndoe", "john@example.com", "John Doe", "Straße", "王小明")
    assert password_weakness(password, user_inputs=own) is not None


@pytest.mark.parametrize("password", ["johndoe-likes-rain", "SecurePass123", "Telecom-X9", "my doe ran away"])
def test_own_name_may_be_part_of_a_good_password(password: str) -> None:
    assert password_weakness(password, user_inputs=("johndoe", "john@example.com", "John Doe", "", "  ")) is None


def test_words_of_four_letters_count() -> None:
    assert password_weakness("wangQ7x!v2", user_inputs=("Li Wang",)) is not None
    assert password_weakness("wanQ7x!v2g", user_inputs=("Li Wan",)) is None


def test_own_name_counts_only_for_its_owner() -> None:
    assert password_weakness("johndoe2024", user_inputs=("johndoe",)) is not None
    assert password_weakness("johndoe2024", user_inputs=("alice",)) is None
    assert password_weakness("johndoe2024") is None


def test_own_name_in_other_normal_form() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Renée-Zoë") for form in ("NFC", "NFD"))
    for name, password in ((composed, decomposed), (decomposed, composed)):
        assert password_weakness(f"{password}1", user_inputs=(name,)) is not None


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[str], bool]]:
    """What zxcvbn was asked, and whether another call was running."""
    calls: list[tuple[str, Sequence[str], bool]] = []
    running = threading.Semaphore(1)
    score = zxcvbn_module.zxcvbn

    def spy(password: str, user_inputs: Sequence[str]) -> Any:
        alone = running.acquire(blocking=False)
        calls.append((password, user_inputs, alone))
        try:
            time.sleep(0.005)
            return score(password, user_inputs=user_inputs)
        finally:
            if alone:
                running.release()

    monkeypatch.setattr(zxcvbn_module, "zxcvbn", spy)
    return calls


LOOKALIKES = "{[(<1!|7+$5@4698%02"


@pytest.mark.parametrize(
    "password",
    [
        LOOKALIKES * 6,
        "(<{[|!1+$7@5" * 10,
        "".join(pair * 2 for pair in ("4@", "({", "[<", "1!", "|7", "0$", "5+", "%2", "69", "38")) * 3,
        "!!|b!c3|!3[33c7c!+c+3<3!371c{cbc" * 4,
        "01021999" * 16,
        "1!|7" * 32,
        "aA" * 64,
        "密" * 128,
    ],
)
def test_time_is_bounded(password: str) -> None:
    """72 characters of look-alikes take zxcvbn five seconds: the beginning is enough."""
    password_weakness(PASSWORD)  # the import
    start = time.process_time()
    password_weakness(password[:128], user_inputs=(password[:200],))
    assert time.process_time() - start < 0.5


def test_only_the_beginning_is_scored(scored: list[tuple[str, Sequence[str], bool]]) -> None:
    for password in ("xK9mQvRtYpLw" * 10, LOOKALIKES * 6, "0123456789" * 3):
        password_weakness(password, user_inputs=("a-very-long-name-of-more-than-32-characters",))
    assert [len(password) for password, _, _ in scored] == [32, 12, 30]
    assert [max(map(len, words)) for _, words, _ in scored] == [32, 12, 30]


def test_words_of_two_users_do_not_mix(scored: list[tuple[str, Sequence[str], bool]]) -> None:
    """zxcvbn keeps the words in a global: two calls at once would judge by each other's."""
    threads = [
        threading.Thread(target=password_weakness, args=("xK9mQvRtYpLw",), kwargs={"user_inputs": (f"user{n}",)})
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [alone for _, _, alone in scored] == [True] * 8


@given(st.text(st.characters(), max_size=140), st.lists(st.text(st.characters(), max_size=40), max_size=3))
@settings(deadline=None, max_examples=200)
def test_judgement_of_any_text_is_a_sentence_or_none(password: str, user_inputs: list[str]) -> None:
    weakness = password_weakness(password, user_inputs=user_inputs)
    assert weakness is None or weakness.endswith(".")
    if weakness is None:
        HASHER.hash(password)


@given(st.text("0123456789/-. 'aA@$!({|\\²٣०௧〇", min_size=8, max_size=32))
@settings(deadline=None, max_examples=300)
def test_digits_dates_and_lookalikes_of_any_script(password: str) -> None:
    weakness = password_weakness(password)
    assert weakness is None or weakness.endswith(".")
