"""As whom the programs of the embedded PostgreSQL run, and with what of our environment."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

NOBODY: Final = 65534
# Nothing else of our environment: it holds secrets of the service, and the server may run as another user.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | {
    name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
}

# Runs between fork and PostgreSQL, as a program of its own because `preexec_fn` may deadlock in a process with threads.
# The death signal is armed last: a change of user disarms it. SIGINT is PostgreSQL's fast shutdown.
_LAUNCHER: Final = """
import os, signal, sys
way, parent, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
try:
    if sys.platform == "linux":
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
    if way == "namespace":
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(0x10000000):
            raise OSError(ctypes.get_errno(), "no user namespace")
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {user} 1"), ("gid_map", f"65534 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    elif way == "nobody":
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if sys.platform == "linux":
        libc.prctl(1, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit("error: the parent process is gone")
    os.execv(command[0], command)
except (AttributeError, OSError) as error:
    sys.exit(f"error: {command[0]}: {error}")
"""


@dataclass(frozen=True)
class Account:
    """As whom PostgreSQL's programs run, because they refuse to run as root.

    `self`: as this process. `namespace`: as root outside and as nobody inside of a user namespace. `nobody`: setuid.
    """

    way: Literal["self", "namespace", "nobody"]

    @property
    def owner(self) -> int:
        """The user that must own its files on the disk."""
        return NOBODY if self.way == "nobody" else os.geteuid()

    def command(self, *words: str | Path) -> list[str]:
        """Give the command line that becomes this account and then the program; it ends with this process on Linux."""
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, self.way, str(os.getpid())]
        return launcher + [str(word) for word in words]

    def can(self, *words: str | Path) -> bool:
        """Try it: only the kernel knows all the rules (modes, ACLs, namespaces, seccomp)."""
        quiet = subprocess.DEVNULL
        command = self.command(*words)
        done = subprocess.run(  # noqa: S603
            command, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/", env=ENVIRONMENT, check=False
        )
        return done.returncode == 0

    def own(self, path: Path) -> None:
        """Hand over a whole tree, its top last, so that an interrupted change is taken up again."""
        if path.stat().st_uid != self.owner:
            for parent, _, files in os.walk(path, topdown=False):
                for name in files:
                    os.chown(Path(parent, name), self.owner, -1, follow_symlinks=False)
                os.chown(parent, self.owner, -1)
