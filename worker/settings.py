"""The settings of a worker, from its environment and command line."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    TypeAdapter,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trimtab.contract.message import Name
from trimtab.loopback import is_loopback
from worker import devices
from worker.fetching.allowed import Allowed, fault_of

GB = 10**9


def _known_device(device: str) -> str:
    if devices.DEVICE.fullmatch(device) is None:
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return device


def _files(listed: object) -> object:
    if not isinstance(listed, str):
        return listed
    return [each for each in listed.split(os.pathsep) if each]


def _names(listed: object) -> object:
    if not isinstance(listed, str):
        return listed
    return tuple(name for name in re.split(r"[\s,]+", listed) if name)


def _beginning_of_addresses(prefix: str) -> str:
    if fault := fault_of(prefix):
        raise ValueError(fault)
    return prefix


def default_label(hostname: str) -> str:
    """Make a label of a host's name: small letters, digits, `.`, `_` and `-`, at most 63 characters."""
    label = re.sub(r"[^a-z0-9._-]+", "-", hostname.lower())[:63].strip("._-")
    return TypeAdapter(Name).validate_python(label or "worker")


class Settings(BaseSettings):
    """The settings of one worker.

    They are read from TRIMTAB_SERVER, TRIMTAB_TOKEN, TRIMTAB_BACKBONES and TRIMTAB_WORKER_*; the command line wins over
    the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRIMTAB_WORKER_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    server: str = Field(
        default="http://127.0.0.1:8000",
        validation_alias=AliasChoices("server", "TRIMTAB_SERVER"),
    )
    token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("token", "TRIMTAB_TOKEN")
    )
    token_file: Path | None = Field(
        default=None, validation_alias=AliasChoices("token_file", "TRIMTAB_TOKEN_FILE")
    )
    """A file with the token that its owner alone can read; it wins over TRIMTAB_TOKEN."""
    label: Name = Field(default_factory=lambda: default_label(socket.gethostname()))
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    cache_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "trimtab")
    """The folder for decoded data sets, features, checkpoints and undelivered outcomes; workers of one machine share it."""
    feature_cache_bytes: Annotated[int, Field(ge=0)] = 8 * 2**30
    """The largest size on disk of the cache of frozen stages' features; features that do not fit are computed each step."""
    backbones: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_files)] = Field(
        default=(), validation_alias=AliasChoices("backbones", "TRIMTAB_BACKBONES")
    )
    """Python files of own backbones; in the environment with `:` between them, as in PATH."""
    roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_files)] = ()
    """The folders that studies may make this worker read; none allows all, which is refused off loopback."""
    addresses: Annotated[
        tuple[Annotated[str, AfterValidator(_beginning_of_addresses)], ...],
        NoDecode,
        BeforeValidator(_names),
    ] = ()
    """What the addresses begin with that studies may make this worker fetch data from; none allows all on loopback."""
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The bound, in GB, of data, decoded samples and features in the cache; None leaves a part of the disk free."""
    environment: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    """Variables that the training process gets beside those of torch and the system, by their names."""
    download: bool = True
    """Whether public data sets that are missing may be fetched from the network."""
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    """Trials at a time on the device, each by a worker process of its own with a share of the memory."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices, from `device` on, that a trial is trained on if its study needs several."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that compute on the CPU, in each slot; None tries which number is fastest."""
    together: Annotated[int, Field(ge=1, le=64)] = 8
    """Trials at a time in one group, if all that they train is small heads on the same frozen features."""
    exit_when_idle_s: Annotated[float, Field(ge=0)] | None = None
    """The seconds without work after which the worker leaves; None stays."""
    stall_s: Annotated[float, Field(gt=0)] = 300.0
    """The seconds without progress after which the training process is killed."""
    grace_s: Annotated[float, Field(gt=0)] = 30.0
    """The seconds in which the worker drains: half to end the batch and write its checkpoint, half to upload it."""
    runner: str = "worker.runner"
    """The module that trains; any that speaks `worker.pipe_messages` will do."""

    @property
    def lacks_roots(self) -> bool:
        """Whether others than this machine's users may name the files that the worker reads, and any file will do."""
        return not self.roots and not self._is_our_own

    @property
    def cache_bytes(self) -> int | None:
        """The bound of the cache in bytes."""
        return None if self.cache_gb is None else int(self.cache_gb * GB)

    @property
    def allowed(self) -> Allowed:
        """The addresses that studies may make this worker fetch data from."""
        return Allowed(self.addresses, everything=self._is_our_own)

    @property
    def _is_our_own(self) -> bool:
        """Whether the service is on this machine."""
        return is_loopback(urlsplit(self.server).hostname or "")


def load(**given: Any) -> Settings:
    """Read the settings; a value that is given and not None wins over the environment.

    Raises:
        pydantic.ValidationError: A value is not valid.
    """
    return Settings(**{name: value for name, value in given.items() if value is not None})
