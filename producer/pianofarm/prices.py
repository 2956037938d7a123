"""The price table: what machines cost, as the user wrote it down. Reads and checks one TOML file; computes no cost of music."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pianofarm_common.errors import BadSettings

#: The user's table in the state folder; without one the table in the package counts.
PRICES_FILE = "prices.toml"

HOURS_PER_YEAR = 8766.0


class Machine(BaseModel):
    """A machine that is rented, or owned. Money is in the table's currency."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    device: str = Field(min_length=1, max_length=60, description="Whose measured speed counts.")
    workers: int = Field(ge=1, le=4096, description="Worker processes on it.")
    on_demand_per_h: float | None = Field(default=None, gt=0)
    spot_per_h: float | None = Field(default=None, gt=0)
    purchase: float | None = Field(default=None, gt=0)
    lifetime_years: float = Field(default=4.0, gt=0, le=50)
    upkeep_per_year: float = Field(default=0.0, ge=0)
    power_w: float = Field(default=0.0, ge=0, description="Under load.")
    idle_power_w: float = Field(default=0.0, ge=0)
    power_per_kwh: float = Field(default=0.0, ge=0)
    cooling: float = Field(default=1.0, ge=1, le=5, description="Power at the meter for one at the machine.")

    @model_validator(mode="after")
    def _is_rented_or_owned(self) -> Self:
        rented = self.on_demand_per_h is not None or self.spot_per_h is not None
        if rented == self.owned:
            raise ValueError("give on_demand_per_h and/or spot_per_h (rented), or purchase (owned), not both")
        return self

    @property
    def owned(self) -> bool:
        """True if it was bought."""
        return self.purchase is not None

    @property
    def fixed_per_year(self) -> float:
        """What owning it costs in a year in which it renders nothing: depreciation, upkeep, idle power. 0 if rented."""
        if self.purchase is None:
            return 0.0
        idle = self.idle_power_w / 1000.0 * HOURS_PER_YEAR * self.power_per_kwh * self.cooling
        return self.purchase / self.lifetime_years + self.upkeep_per_year + idle

    @property
    def busy_per_h(self) -> float:
        """What an hour of work costs on top of that: the power that idling would not have taken. 0 if rented."""
        return max(0.0, self.power_w - self.idle_power_w) / 1000.0 * self.power_per_kwh * self.cooling


class PriceTable(BaseModel):
    """All machines somebody thinks of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    currency: str = Field(min_length=1, max_length=10)
    storage_per_gb_month: float = Field(default=0.0, ge=0)
    spot_overhead: float = Field(default=0.0, ge=0, le=10, description="Work done twice on spot machines, as a part.")
    machine: tuple[Machine, ...] = Field(min_length=1)

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """A table from TOML.

        Raises:
            BadSettings: names the file, the entry and what is wrong with it.
        """
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise BadSettings(f"{where} is not TOML: {error}") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
            raise BadSettings(f"{where}: {problems}") from None

    @classmethod
    def load(cls, state_dir: Path, path: Path | None = None) -> Self:
        """The table at `path`, else the user's in the state folder, else the one in the package. Raises as `parse` does."""
        chosen = path or state_dir / PRICES_FILE
        if path is None and not chosen.is_file():
            return cls.parse((files("pianofarm") / PRICES_FILE).read_text(), "the price table of the package")
        try:
            return cls.parse(chosen.read_text(), str(chosen))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"price table {chosen} cannot be read: {error}") from None
