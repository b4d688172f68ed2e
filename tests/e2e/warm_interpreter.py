"""Commands of PyAPI without the second and a half that Python takes to import it, for tests that run many of them.

Without arguments it imports everything, and forks for each command that comes through the socket on its stdin; the fork
becomes the command and ends as Python does. `warm_interpreter.py FD COMMAND...`, with the other end of that socket, is
what a test starts: it hands over its folder, environment and standard streams, and ends as the command ends.

A command is given as to Python: `-m MODULE WORDS...` or `SCRIPT WORDS...`.
"""

import gc
import json
import os
import signal
import socket
import sys


def run(control: socket.socket, command: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answer, theirs = os.pipe()
    job = json.dumps([os.getcwd(), dict(os.environ), command]).encode()  # noqa: PTH109
    socket.send_fds(control, [job], [0, 1, 2, theirs])
    os.close(theirs)
    control.close()
    status = int(os.read(answer, 10) or sys.exit("The warm interpreter is gone."))
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(control: socket.socket) -> None:
    """Ends when all tests are done: then nobody has the other end of `control` any more."""
    import runpy

    import pyapi.cli  # noqa: F401

    gc.freeze()  # else each fork copies all that was imported when it ends, to look for garbage in it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        job, received, *_ = socket.recv_fds(control, 1_000_000, 4)
        if not job:
            return
        if os.fork() == 0 and is_the_command(received[3]):
            break
        for descriptor in received:
            os.close(descriptor)

    folder, environment, words = json.loads(job)
    for number, descriptor in enumerate(received[:3]):
        os.dup2(descriptor, number)
    for descriptor in (*received, control.detach()):
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], folder
        del sys.modules["pyapi.cli"], sys.modules["pyapi.__main__"]  # what is run, Python has not imported before
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(words[0])  # noqa: PTH120
        runpy.run_path(words[0], run_name="__main__")


def is_the_command(answer: int) -> bool:
    """Fork once more; the parent waits for the command, tells how it ended, and is gone without a trace."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if command == 0:
        return True
    try:
        os.write(answer, b"%d" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
    finally:
        os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve(socket.socket(fileno=os.dup(0)))
    else:
        run(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
