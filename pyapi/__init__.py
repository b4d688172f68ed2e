"""PyAPI keeps a data team's ETL jobs as rows that Apache Airflow runs."""
