"""The Python examples of the project's first README, run as they are printed (`seed_examples.md`).

Only three things are replaced: the address, the text 'your-access-token', and the password of the last example, which
signs in as admin with 'password': that is too weak for this service, so the account was made with another one.
"""

import re
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import RunningServer, StartServer, run_command
from tests.integration.conftest import PASSWORD
from tests.conftest import NewDatabase

SETUP, REGISTER_AND_LOGIN, DATA_OPERATIONS, COMPLETE = re.findall(
    r"^```python\n(.*?)^```$", Path(__file__).with_name("seed_examples.md").read_text(encoding="utf-8"), re.M | re.S
)


@pytest.fixture(scope="module")
async def server(shared_server: RunningServer) -> RunningServer:
    return shared_server
