"""Data records of PyAPI as DAGs: put this file into Airflow's DAGs folder, and `pyapi-airflow` into its environment.

Better, where Airflow's configuration can be changed: the bundle (see docs/airflow.md), which is quicker and versioned.
"""

from pathlib import Path

from pyapi_airflow.folder import make_all_dags

make_all_dags(globals(), snapshot=Path(__file__).with_name(".pyapi_dags.json"))
