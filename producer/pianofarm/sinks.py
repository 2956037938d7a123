"""Where played sound goes, block by block: a pipe as WAV or bare samples, or a sound device. No synthesis here."""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import FULL_DISK, BadOption, DiskFull

#: A WAV file says its length in 32 bits.
_LONGEST_WAV_BYTES = 2**32 - 1 - 36


class Sink(Protocol):
    """Takes blocks [block_samples, n_channels] float32; a context manager."""

    def __enter__(self) -> Self:
        """Open it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it, whatever happened."""

    def write(self, block: NDArray[np.float32]) -> bool:
        """Take a block; True where it came too late."""


class PipeSink:
    """16-bit samples, little-endian, interleaved, into a binary file that need not be seekable; as fast as they are made."""

    def __init__(
        self, file: BinaryIO, *, sample_rate_hz: int, n_channels: int, n_samples: int, header: bool = True
    ) -> None:
        """Prepare to write.

        Args:
            file: for example standard output; stays open.
            sample_rate_hz: of the blocks.
            n_channels: of the blocks.
            n_samples: in all, a channel.
            header: begin with that of a WAV file; otherwise bare samples.
        """
        self._file = file
        self._header = _wav_header(sample_rate_hz, n_channels, n_samples) if header else b""

    def __enter__(self) -> Self:
        """Write the header.

        Raises:
            DiskFull: there is no room.
        """
        self._put(self._header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the file open."""

    def write(self, block: NDArray[np.float32]) -> bool:
        """Write a block; whoever reads decides when the next one is due.

        Raises:
            DiskFull: there is no room.
        """
        self._put((np.clip(block, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes())
        return False

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise DiskFull(
                f"no room for the sound where it is written to ({error.strerror}): free some space"
            ) from None


class DeviceSink:
    """The sound device of this machine, by way of the optional package `sounddevice` (PortAudio); writing keeps its pace."""

    def __init__(self, *, sample_rate_hz: int, n_channels: int, block_samples: int, device: str | None = None) -> None:
        """Open the device.

        Args:
            sample_rate_hz: of the blocks.
            n_channels: of the blocks.
            block_samples: of every block.
            device: its name, a part of it or its number; None: the default one.

        Raises:
            BadOption: there is none, or it does not take such sound; says what else can be done.
        """
        sounddevice = import_sounddevice()
        try:
            self._stream = sounddevice.OutputStream(
                samplerate=sample_rate_hz,
                channels=n_channels,
                blocksize=block_samples,
                dtype="float32",
                latency="low",
                device=int(device) if device is not None and device.isdigit() else device,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise BadOption(
                f"no sound device for {n_channels} channels at {sample_rate_hz} Hz: {error} ({_INSTEAD})"
            ) from None

    def __enter__(self) -> Self:
        """Start it."""
        self._stream.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let it play what it has, or stop at once where something went wrong."""
        if error is None:
            self._stream.stop()
        else:
            self._stream.abort()
        self._stream.close()

    def write(self, block: NDArray[np.float32]) -> bool:
        """Write a block as soon as there is room; True where the device had run dry."""
        return bool(self._stream.write(np.ascontiguousarray(np.clip(block, -1.0, 1.0))))


_INSTEAD = "or write to a player: pianofarm play FILE --stdout | aplay"


def import_sounddevice() -> Any:
    """The package that plays.

    Raises:
        BadOption: it is not installed, or does not find PortAudio.
    """
    try:
        import sounddevice
    except ImportError:
        raise BadOption(f"no sound device: pip install 'pianofarm[play]' brings sounddevice ({_INSTEAD})") from None
    except OSError as error:
        raise BadOption(f"no sound device: {error}; install PortAudio (Debian: libportaudio2; {_INSTEAD})") from None
    return sounddevice


def _wav_header(sample_rate_hz: int, n_channels: int, n_samples: int) -> bytes:
    """Of 16-bit samples. Past 4 GB it says the most it can, which players take for "until the end"."""
    n_frame = 2 * n_channels
    n_bytes = min(n_samples * n_frame, _LONGEST_WAV_BYTES - _LONGEST_WAV_BYTES % n_frame)
    form = struct.pack("<HHIIHH", 1, n_channels, sample_rate_hz, sample_rate_hz * n_frame, n_frame, 16)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", 36 + n_bytes, b"WAVE", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", n_bytes)
    )
