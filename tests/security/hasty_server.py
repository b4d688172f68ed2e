"""`python -m pyapi` with the patience of a test: seconds where a real server waits for many."""

from pyapi.__main__ import main
from pyapi.http_protocol import Protocol
from pyapi.web import requests

HEAD_SECONDS = LINGER_SECONDS = STALL_SECONDS = BODY_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 3

if __name__ == "__main__":
    Protocol.head_seconds = HEAD_SECONDS
    Protocol.linger_seconds = LINGER_SECONDS
    Protocol.stall_seconds = STALL_SECONDS
    requests.BODY_SECONDS = BODY_SECONDS
    Protocol.keep_alive_seconds = KEEP_ALIVE_SECONDS
    main()
