"""The one settings class: every value with its unit, its range and its environment variable. Nothing else reads the environment.

Built once in a composition root (`Settings.load()`) and passed down. Precedence: environment, then `farm.env` in the state
folder (written by `pianofarm up`, readable by its owner only), then the defaults below. `docs/settings.md` lists the same
fields; a test holds the two together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pianofarm_common.errors import BadSettings
from pianofarm_common.precision import Precision

#: The file in the state folder that `pianofarm up` writes and `Settings.load` reads.
FARM_ENV_FILE = "farm.env"

#: Shortest key that signs anything: 128 bits in hex digits.
MIN_KEY_CHARACTERS = 32


def default_state_dir() -> Path:
    """Where pianofarm keeps what outlives a command: `$XDG_STATE_HOME/pianofarm`, else `~/.local/state/pianofarm`."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "pianofarm"


class Settings(BaseSettings):
    """Every setting of producers, workers and the local farm. Environment prefix: `PIANOFARM_`."""

    model_config = SettingsConfigDict(env_prefix="PIANOFARM_", frozen=True, extra="ignore", hide_input_in_errors=True)

    state_dir: Path = Field(
        default_factory=default_state_dir, description="Folder for models, logs and the local farm."
    )

    # Services
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Broker and ledger; `rediss://` for TLS."
    )
    redis_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for one answer from Redis.")
    s3_endpoint: str = Field(default="", description="URL of the S3-compatible store; empty: Amazon's own.")
    s3_region: str = Field(default="us-east-1", description="Region the requests are signed for.")
    s3_bucket: str = Field(default="pianofarm", min_length=3, max_length=63, description="Bucket for MIDI and audio.")
    s3_access_key: SecretStr = Field(default=SecretStr(""), description="Access key; empty: the vendor's own chain.")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="Secret key that belongs to the access key.")
    s3_timeout_s: float = Field(default=30.0, gt=0, le=600, description="Longest wait for one answer from the store.")
    presign_ttl_s: int = Field(default=3600, ge=1, le=604_800, description="How long a presigned URL works.")
    message_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys that sign queue messages, commas between them; the first signs, all are accepted; empty: no signatures.",
    )

    owner: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="A client submits as this owner, and sees this owner's jobs only; empty: everybody's.",
    )

    # Synthesis
    model: str = Field(default="default", description="Model used when a request names none.")
    registry: str = Field(default="", description="Folder or `s3://bucket/prefix` with more models; empty: none.")
    backend: Literal["tensorflow", "jax"] = Field(default="tensorflow", description="Array library that synthesizes.")
    precision: Precision = Field(
        default="float32", description="What the products of a network take; another one makes other renders."
    )
    threads_per_worker: int = Field(
        default=1, ge=0, le=256, description="CPU threads a worker, or `pianofarm render`, computes with; 0: all."
    )
    batch_size: int = Field(
        default=0, ge=0, le=256, description="Renders a worker makes at once; 0: 8 on an accelerator, 1 on a CPU."
    )

    # Limits on MIDI, checked before anything is allocated
    midi_max_bytes: int = Field(default=8_000_000, ge=14, description="Largest MIDI file accepted, in bytes.")
    midi_max_duration_s: float = Field(default=7200.0, gt=0, description="Longest performance accepted.")
    midi_max_notes: int = Field(default=500_000, ge=1, description="Most notes accepted in one file.")
    midi_max_tracks: int = Field(default=1024, ge=1, le=65_535, description="Most tracks accepted in one file.")

    # The child process in which a worker reads them
    midi_reader_cpu_s: float = Field(
        default=20.0, ge=0.1, le=3600, description="CPU time that a worker spends on reading one MIDI file."
    )
    midi_reader_wall_s: float = Field(
        default=120.0, ge=0.1, le=3600, description="Time after which it gives up, whatever the CPU did."
    )
    midi_reader_memory_bytes: int = Field(
        default=1 << 30, ge=1 << 24, description="Memory that reading one MIDI file may take."
    )

    # Delivery
    lease_s: float = Field(
        default=15.0, ge=0.5, le=3600, description="A claim lapses this long after its last heartbeat."
    )
    heartbeat_s: float = Field(default=4.0, ge=0.1, le=1200, description="A worker renews its lease this often.")
    sweep_interval_s: float = Field(
        default=1.0, ge=0.05, le=3600, description="The sweeper looks for lost work this often."
    )
    lost_message_s: float = Field(
        default=30.0,
        ge=0.5,
        le=86_400,
        description="A queued render nobody claimed is published again after this long.",
    )
    max_attempts: int = Field(default=3, ge=1, le=100, description="Tries before a render fails or is quarantined.")
    host_deaths: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="A host on which so many renders died that died nowhere else gets no more work; 0: never.",
    )
    host_window_s: float = Field(
        default=3600.0, ge=1, le=604_800, description="Deaths on a host are counted this long."
    )
    backoff_base_s: float = Field(default=1.0, ge=0.01, le=3600, description="First wait after a transient error.")
    backoff_max_s: float = Field(default=300.0, ge=0.01, le=86_400, description="Longest wait after a transient error.")
    outage_patience_s: float = Field(
        default=86_400.0,
        ge=0,
        description="A render hit by outages of a service for this long has its attempts counted again.",
    )
    retention_s: float = Field(
        default=0.0,
        ge=0,
        description="Sweepers delete audio and MIDI that is older and that no job points to; 0: never.",
    )
    ledger_ttl_s: int = Field(
        default=7 * 86_400, ge=60, description="Finished jobs and renders are remembered this long."
    )
    events_max_length: int = Field(default=100_000, ge=100, description="Events kept per stream, about.")
    window_audio_s: float = Field(
        default=300.0, gt=0, description="Audio published ahead for each worker; the rest waits for its owner's turn."
    )
    bundle_max_renders: int = Field(default=8, ge=1, le=256, description="Most renders in one queue message.")
    task_events: bool = Field(default=True, description="Send Celery events, which Flower shows.")
    soft_shutdown_s: float = Field(
        default=20.0, ge=0, le=3600, description="Time a stopping worker has to hand back work."
    )

    # The local farm
    local_workers: int = Field(default=0, ge=0, le=1024, description="Workers `pianofarm up` starts; 0: one a core.")
    flower_port: int = Field(default=0, ge=0, le=65_535, description="Port of Flower on loopback; 0: any free one.")

    # Monitoring
    metrics_bind: str = Field(
        default="127.0.0.1", description="Address the metrics are served on; a container needs 0.0.0.0."
    )
    exporter_port: int = Field(default=9464, ge=1, le=65_535, description="Port of the exporter, `/metrics`.")
    worker_metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="First port for a worker's own metrics; 0: not served."
    )
    sweeper_metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="Port of a sweeper's own metrics; 0: not served."
    )
    assumed_speed: float = Field(
        default=10.0, gt=0, description="Audio seconds a worker makes in a second, until it was measured."
    )
    worker_price_per_h: float = Field(default=0.0, ge=0, description="Price of a worker for an hour, in any currency.")
    otlp_endpoint: str = Field(
        default="", description="OTLP/HTTP collector the exporter sends a trace of every job to; empty: no traces."
    )

    # Webhooks
    webhook_keys: SecretStr = Field(
        default=SecretStr(""), description="Keys that sign webhooks, commas between them; empty: sweepers send none."
    )
    webhook_allow_private: bool = Field(
        default=False, description="Whether webhooks may reach addresses that are not public."
    )

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe level logged."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="One JSON object a line, or for eyes.")

    @field_validator("message_keys", "webhook_keys")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key.strip()) < MIN_KEY_CHARACTERS for key in value.get_secret_value().split(",") if key.strip()):
            raise ValueError(f"a key has at least {MIN_KEY_CHARACTERS} characters (openssl rand -hex 32 makes one)")
        return value

    @classmethod
    def load(cls, state_dir: Path | None = None) -> Self:
        """Settings from the environment and from the local farm's file, if a local farm was set up.

        Raises:
            BadSettings: a value cannot be used; the message names its variable and says why.
        """
        folder = state_dir or Path(os.environ.get("PIANOFARM_STATE_DIR") or default_state_dir())
        try:
            return cls(_env_file=folder / FARM_ENV_FILE, state_dir=folder)
        except ValidationError as error:
            problems = "; ".join(
                f"PIANOFARM_{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
                for item in error.errors()
            )
            raise BadSettings(f"unusable settings: {problems} (docs/settings.md lists every setting)") from None
