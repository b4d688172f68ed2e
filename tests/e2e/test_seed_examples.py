"""The Python examples of the project's first README, run as they are printed (`seed_examples.md`).

Only three things are replaced: the address, the text 'your-access-token', and the password of the last example, which
signs in as admin with 'password': that is too weak for this service, so the account was made with another one.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.application import PASSWORD
from tests.fixtures.servers import RunningServer, run_command, sign_up

PAGE = Path(__file__).with_name("seed_examples.md").read_text(encoding="utf-8")
SETUP, REGISTER_AND_LOGIN, DATA_OPERATIONS, COMPLETE = re.findall(
    r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)

Run = Callable[..., str]


@pytest.fixture
def run(shared_server: RunningServer, tmp_path: Path) -> Run:
    """Runs an example to its end and hands back what it printed: `run(EXAMPLE, (printed, replacement), ...)`."""

    def run(example: str, *replacements: tuple[str, str]) -> str:
        for printed, replacement in (("http://localhost:8000", shared_server.url), *replacements):
            assert printed in example
            example = example.replace(printed, replacement)
        finished = run_command(tmp_path, sys.executable, "-c", example)
        assert (finished.status, finished.error) == (0, "")
        return finished.output

    return run


async def active_records(server: RunningServer) -> tuple[int, list[dict[str, Any]]]:
    """How many, and the ten that a list shows without being asked for more."""
    async with server.client() as client:
        page = (await client.get("/api/data/?status=active")).json()
        return page["total"], page["data"]


def test_register_and_login(run: Run) -> None:
    assert run(SETUP + REGISTER_AND_LOGIN) == "使用者註冊成功: johndoe\n登入成功！\n"


async def test_data_operations(run: Run, shared_server: RunningServer) -> None:
    async with shared_server.client() as client:
        account = await sign_up(client, "seed_reader")
    total, records = await active_records(shared_server)

    printed = run(SETUP + DATA_OPERATIONS, ("your-access-token", account.access_token))

    number = re.findall(r"\d+", printed)[0]
    older = "".join(f"- {record['name']} (ID: {record['id']})\n" for record in records[:9])
    assert printed == (
        f"資料建立成功，ID: {number}\n"
        f"查詢到 {total + 1} 筆資料\n"
        f"- ETL 資料處理任務 (ID: {number})\n{older}"
        "資料詳情: ETL 資料處理任務\n"
        "資料更新成功: ETL 資料處理任務\n"
        "刪除成功: Deleted 'ETL 資料處理任務'.\n"
    )


async def test_complete_example(run: Run, shared_server: RunningServer) -> None:
    async with shared_server.client() as client:
        await sign_up(client, "admin")

    printed = run(COMPLETE, ('"admin", "password"', f'"admin", "{PASSWORD}"'))

    _, records = await active_records(shared_server)
    assert printed == (
        "✅ 登入成功\n"
        f"✅ ETL 作業建立成功: daily_sync (ID: {records[0]['id']})\n"
        f"📋 共有 {len(records)} 個活躍作業:\n" + "".join(f"   - {record['name']} (active)\n" for record in records)
    )


def test_complete_example_without_its_account(run: Run) -> None:
    assert run(COMPLETE, ('"admin"', '"nobody"')) == "❌ 登入失敗\n"
