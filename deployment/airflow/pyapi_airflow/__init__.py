"""The reader kit of PyAPI: brings data records into Airflow.

For authors of DAGs: `from pyapi_airflow import record, records`. For operators: `pyapi_airflow.bundle.PyapiDagBundle`.
"""

from pyapi_airflow.decryption import SecretUnreadable
from pyapi_airflow.records import Record, RecordNotFound, record, records

__all__ = ["Record", "RecordNotFound", "SecretUnreadable", "record", "records"]
