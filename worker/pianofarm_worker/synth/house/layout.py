"""The fixed numbers of a house model: rates, hops and bands, as its configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Hops over which a note may come in.
RISE_HOPS = 4

#: Frames that noise keeps to itself at its onset; later its powers are added up every `SLOW` frames.
NOISE_ONSET, SLOW = 16, 4


@dataclass(frozen=True)
class BandLayout:
    """How noise is divided in frequency and time."""

    n_bands: int = 40
    window: int = 256  #: samples
    hop: int = 128  #: samples


@dataclass(frozen=True)
class Layout:
    """How a house model divides time and frequency."""

    sample_rate_hz: int = 32_000
    hop: int = 256  #: samples between the frames of a note
    bands: BandLayout = field(default_factory=BandLayout)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layout a configuration holds.

        Raises:
            KeyError: an entry is missing.
        """
        return cls(int(config["sample_rate_hz"]), int(config["hop"]), BandLayout(**config["bands"]))

    def to_config(self) -> dict[str, Any]:
        """What `from_config` reads."""
        return asdict(self)

    def rise(self, rise_s: float) -> NDArray[np.float32]:
        """How a note comes in: a squared sine that reaches one after the rise time, at most `RISE_HOPS` hops. [RISE_HOPS, hop]"""
        part = np.clip((np.arange(RISE_HOPS * self.hop) + 0.5) / max(1.0, rise_s * self.sample_rate_hz), 0.0, 1.0)
        return np.asarray(np.sin(0.5 * np.pi * part) ** 2, np.float32).reshape(RISE_HOPS, self.hop)
