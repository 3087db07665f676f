"""The service's settings: environment variables with the prefix `TRIMTAB_`, or arguments of `python -m service`."""

import ipaddress
import re
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SHORTEST_TOKEN = 32
"""Characters, off loopback: anyone who reaches the port can try tokens, and 32 hexadecimal digits are 128 bits."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_MAKE = "`openssl rand -hex 32` makes one"


class Settings(BaseSettings):
    """Where to listen, where to keep things, and how often to tidy."""

    model_config = SettingsConfigDict(env_prefix="TRIMTAB_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes any free port."""
    token: SecretStr | None = None
    """The shared bearer token; needed, and of 32 characters at least, to listen on anything but loopback."""
    database_url: SecretStr | None = None
    """A Postgres; without one, an embedded Postgres is kept below `data_dir`."""
    data_dir: Path = Path(".trimtab")
    artifacts_dir: Path | None = None
    """Checkpoints and models, shared by replicas; by default `data_dir/artifacts`."""
    sweep_every_s: float = Field(default=5.0, gt=0, le=60)
    """Seconds between two looks for expired leases."""
    pool_size: int = Field(default=31, ge=2, le=500)
    """Database connections for requests; the fast path takes four more, the bell one, and the dashboard at most four."""
    artifacts_kept_s: float = Field(default=900.0, ge=1)
    """Seconds for which an artifact is kept that nothing needs, after it was last named."""
    drain_s: float = Field(default=1.0, ge=0, le=60)
    """Seconds from the word to leave, when `/readyz` begins to say 503, until new connections are refused."""

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if self.token is None:
            if self.is_loopback:
                return self
            raise ValueError(
                f"refusing to listen on {self.host} without a token: set TRIMTAB_TOKEN ({_MAKE})"
            )
        if not _VISIBLE.fullmatch(self.token.get_secret_value()):
            raise ValueError(
                "TRIMTAB_TOKEN must be one or more visible ASCII characters: no client could send it otherwise"
            )
        if not self.is_loopback and len(self.token.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(
                f"refusing to listen on {self.host} with a token of fewer than {SHORTEST_TOKEN} characters, "
                f"which others could guess: set TRIMTAB_TOKEN to a random one ({_MAKE})"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def artifacts(self) -> Path:
        """The folder of the artifacts."""
        return self.artifacts_dir or self.data_dir / "artifacts"
