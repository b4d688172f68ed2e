"""Where PyAPI's CPU goes: a sampling profile of its worker under load, by library and by step of a request.

`uv run --group benchmarks python -m benchmarks profiles [--rows N]` takes two minutes and prints tables; it needs the
right to look into processes (root, or CAP_SYS_PTRACE).
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.dataset import Place, copy_of, fill
from benchmarks.measure import measure
from benchmarks.operations import CREATE, LIST_10, LIST_100, OPERATIONS, READ, UPDATE, Operation
from benchmarks.report import table
from benchmarks.server import children_of, running_postgres
from benchmarks.variants import Variant, pyapi

PROFILED = (READ, LIST_10, LIST_100, CREATE, UPDATE)
SECONDS = 6
CONNECTIONS = 8
SAMPLES_PER_SECOND = 400
SHOWN = 12

# A step, and what the innermost frame that belongs to it looks like. The first that is found counts, from the inside.
# What SQLAlchemy does in a greenlet has no frames of ours outside of it.
_STEPS = {
    "who is calling: token": r"^verify \(.*utils/auth\.py",
    "who is calling: session and user in the database": r"^by_session \(",
    "statements of data records": r"^\w+ \(.*pyapi/db/(dao|session_dao)\.py",
    "session, pool, BEGIN, COMMIT, patience": r"^\w+ \(.*pyapi/db/(dependencies|engine)\.py",
    "schedules: summary, next runs": r"^\w+ \(.*pyapi/(schedules/|services/schedule_service)",
    "masking and restoring credentials": r"^\w+ \(.*pyapi/utils/(masking|unmasking|credentials)\.py",
    "answer: validation and JSON": r"^(serialize_response|jsonable_encoder|serialize|render|dump_json)\b",
    "body and parameters": r"^(request_body_to_args|request_params_to_args|_get_value|body|json|parse_json)\b",
    "dependencies of FastAPI": r"^solve_dependencies\b",
    "log line": r"^log_request \(|^info \(",
    "numbers for Prometheus": r"^count_request \(",
    "service": r"^\w+ \(.*pyapi/services/",
    "SQLAlchemy and asyncpg": r"site-packages/(sqlalchemy|asyncpg)/",
    "middleware and routing": r"^\w+ \(.*(pyapi/web/|starlette/|fastapi/)",
}
_PATTERNS = {step: re.compile(pattern) for step, pattern in _STEPS.items()}
_ASLEEP = re.compile(r"(wait|_worker|select) \([^;]*$")
_PACKAGE = re.compile(r"site-packages/(\w+)|/(pyapi)/|lib/python[\d.]+/(?!site-packages)(\w+)")


def main(words: Sequence[str]) -> None:
    """Profile, and print."""
    parser = argparse.ArgumentParser("python -m benchmarks profiles")
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args(words).rows
    with tempfile.TemporaryDirectory() as name, running_postgres(folder := Path(name)) as postgres:
        asyncio.run(fill(Place(postgres), rows))
        place = asyncio.run(copy_of(Place(postgres), "profiles"))
        with pyapi(place, folder) as variant:
            for operation in OPERATIONS:
                if operation.name in PROFILED:
                    _report(operation, _samples(variant, operation, folder, rows))


def _samples(variant: Variant, operation: Operation, folder: Path, rows: int) -> Counter[str]:
    """How often each stack was seen: frames from the outside in, separated by `;`."""
    (worker,) = children_of(variant.pid)
    options = {"rows": rows, "seed": 1, "connections": CONNECTIONS}
    measure(variant, operation, seconds=1, **options)
    load = threading.Thread(target=lambda: measure(variant, operation, seconds=SECONDS + 2, **options))
    load.start()
    output = folder / "profile.txt"
    command = ["py-spy", "record", "--pid", str(worker), "--duration", str(SECONDS), "--format", "raw"]
    more = ["--rate", str(SAMPLES_PER_SECOND), "--full-filenames", "--nonblocking", "--output", str(output)]
    program = str(Path(sys.executable).with_name(command[0]))
    subprocess.run([program, *command[1:], *more], check=True, capture_output=True)
    load.join()
    found: Counter[str] = Counter()
    for line in output.read_text(errors="replace").splitlines():
        stack, _, count = line.rpartition(" ")
        if not _ASLEEP.search(stack):
            found[stack] += int(count)
    return found


def _report(operation: Operation, samples: Counter[str]) -> None:
    whole = sum(samples.values())
    for kind, of in (("step", _step_of), ("library, its own time", _package_of)):
        shares: Counter[str] = Counter()
        for stack, count in samples.items():
            shares[of(stack.split(";"))] += count
        lines = [(name, f"{count / whole:.1%}") for name, count in shares.most_common(SHOWN)]
        print(f"\n{operation.name}, {whole} samples\n\n" + table((kind, "share"), lines))


def _step_of(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for step, pattern in _PATTERNS.items():
            if pattern.search(frame):
                return step
    return "server and event loop"


def _package_of(frames: Sequence[str]) -> str:
    found = _PACKAGE.search(frames[-1])
    return next((name for name in found.groups() if name), "?") if found else "other"
