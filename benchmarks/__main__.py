"""`uv run python -m benchmarks NAME`: one of the benchmarks; results stand in RESULTS.md."""

import sys
from collections.abc import Callable, Sequence

from benchmarks import (
    airflow,
    airflow_faults,
    airflow_link,
    api,
    around,
    etl,
    growth,
    load,
    login,
    profiles,
    schedules,
    secrets_rotation,
)


def run_airflow() -> None:
    """All that needs a real Airflow, one after the other; about 25 minutes."""
    airflow.main(10)
    airflow.main(1000)
    airflow_faults.main()
    airflow_link.main()


BENCHMARKS: dict[str, Callable[[], None]] = {
    "airflow": run_airflow,
    "airflow-faults": airflow_faults.main,
    "airflow-link": airflow_link.main,
    "around": around.main,
    "login": login.main,
    "schedules": schedules.main,
    "secrets": secrets_rotation.main,
}
WITH_OPTIONS: dict[str, Callable[[Sequence[str]], None]] = {
    "api": api.main,
    "etl": etl.main,
    "growth": growth.main,
    "load": load.main,
    "profiles": profiles.main,
}


def main(words: Sequence[str]) -> None:
    """Run the one that is named."""
    name, options = (words[0], words[1:]) if words else ("", ())
    if name in WITH_OPTIONS:
        WITH_OPTIONS[name](options)
    elif name in BENCHMARKS and not options:
        BENCHMARKS[name]()
    else:
        sys.exit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS | WITH_OPTIONS)}}} [options]")


if __name__ == "__main__":
    main(sys.argv[1:])
