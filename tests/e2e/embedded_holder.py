"""A process that holds an embedded PostgreSQL, for tests that kill it: `embedded_holder.py FOLDER [options]`.

Prints one line of JSON when the server answers (or the error) and one per SIGINT; ends in order when stdin closes.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from pyapi.db.embedded import EmbeddedPostgres, attach_or_start
from pyapi.exceptions import ConfigurationError


def say(**words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attach", action="store_true")
    parser.add_argument("--worker", action="store_true", help="fork a child that calls stop() and does the talking")
    parser.add_argument("--fallback", type=Path, default=Path("/nonexistent"))
    parser.add_argument("--no-namespaces", action="store_true")
    asked = parser.parse_args()

    signal.signal(signal.SIGINT, lambda *_: say(interrupted=True))
    server: EmbeddedPostgres | None = EmbeddedPostgres(
        asked.folder, fallback_dir=asked.fallback, namespaces=not asked.no_namespaces
    )
    try:
        if asked.attach:
            url, server = attach_or_start(asked.folder, fallback_dir=asked.fallback)
        else:
            assert server is not None
            url = server.start()
    except ConfigurationError as error:
        say(error=type(error).__name__, text=str(error))
        return

    data_path = str(server.data_path) if server else ""
    if asked.worker and os.fork() == 0:
        assert server is not None
        server.stop()
        say(url=url, worker=os.getpid())
        time.sleep(60)
        os._exit(0)
    if not asked.worker:
        say(url=url, owner=server is not None, data_path=data_path)
    sys.stdin.readline()
    if server is not None:
        server.stop()
    say(stopped=True)


if __name__ == "__main__":
    main()
