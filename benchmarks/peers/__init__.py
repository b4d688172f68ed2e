"""What PyAPI is measured against; each module is an application of its own, on the tables of PyAPI."""
