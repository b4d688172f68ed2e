"""`uv run python -m benchmarks NAME`: one of the benchmarks; results stand in RESULTS.md."""

import sys

from benchmarks import airflow, airflow_faults, airflow_link, etl, login, schedules, secrets_rotation


def run_airflow() -> None:
    """All that needs a real Airflow, one after the other; about 25 minutes."""
    airflow.main(10)
    airflow.main(1000)
    airflow_faults.main()
    airflow_link.main()


BENCHMARKS = {
    "airflow": run_airflow,
    "airflow-faults": airflow_faults.main,
    "airflow-link": airflow_link.main,
    "etl": etl.main,
    "login": login.main,
    "schedules": schedules.main,
    "secrets": secrets_rotation.main,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}}")
    BENCHMARKS[sys.argv[1]]()
