"""The curl session of both READMEs, pasted into a shell as it stands."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.servers import RunningServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-TW.md"])
def test_the_curl_session_works(readme: str, shared_server: RunningServer) -> None:
    session = re.search(r"```bash\n(API=.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    assert session is not None
    # Every reader has a server of their own; here two readers and other tests share one.
    me = re.sub(r"\W", "-", readme.lower())
    script = session[1].replace("http://127.0.0.1:8000", shared_server.url).replace("john", me)
    checked = f"set -euo pipefail\n{script.replace('curl -sS', 'curl -sS --fail-with-body')}"
    done = subprocess.run(["bash", "-c", checked], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
