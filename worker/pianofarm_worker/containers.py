"""Samples -> the bytes of a WAV, FLAC or Ogg Vorbis file, the same bytes every time. No resampling, no levels, no measuring.

libsndfile writes FLAC and Vorbis. It puts the time of day into float WAV files and a random serial number into Ogg files, so WAV
is written here and Ogg pages are numbered anew. Samples are rounded to the nearest step and never dithered.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from pianofarm_common.errors import BadOption
from pianofarm_worker.synth import long_arrays

SampleFormat = Literal["pcm16", "pcm24", "float32"]

#: What a file holds; a view of a long array (`synth.long_arrays`) where its samples were one.
FileBytes = bytes | memoryview

#: What an HTTP answer or an object in a store is labelled with.
MEDIA_TYPES: Final = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg"}

#: Of Vorbis: 0 is the best quality, 1 the smallest file. 0.4 gives about 96 kb/s a channel at 44.1 kHz.
_VORBIS_COMPRESSION = 0.4

#: Samples converted at a time: bounds the memory used beside the file itself.
_SLICE = 1 << 16

_BITS = {"pcm16": 16, "pcm24": 24, "float32": 32}


def write_wav(samples: NDArray[np.float32], sample_rate_hz: int, sample_format: SampleFormat) -> FileBytes:
    """A RIFF WAVE file.

    Args:
        samples: [n_samples, n_channels]; beyond -1..1 it clips, except as float32.
        sample_rate_hz: of the samples.
        sample_format: how a sample is stored.

    Raises:
        BadOption: more than the 4 GiB a WAV file can hold.
        DiskFull: the folder for temporary files is full.
    """
    n_channels, bits = samples.shape[1], _BITS[sample_format]
    frame_bytes = n_channels * bits // 8
    n_bytes = len(samples) * frame_bytes
    is_float = sample_format == "float32"
    chunks = struct.pack(
        "<4sIHHIIHH",
        b"fmt ",
        16,
        3 if is_float else 1,
        n_channels,
        sample_rate_hz,
        sample_rate_hz * frame_bytes,
        frame_bytes,
        bits,
    )
    if is_float:
        chunks += struct.pack("<4sII", b"fact", 4, len(samples))
    riff_bytes = 4 + len(chunks) + 8 + n_bytes + n_bytes % 2
    if riff_bytes >= 1 << 32:
        raise BadOption(
            f"{n_bytes} bytes of audio: a WAV file holds 4 GiB (ask for flac, a lower sample rate or pcm16)"
        )
    head = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + chunks + struct.pack("<4sI", b"data", n_bytes)
    packed = itertools.chain(
        (head,), (_packed(part, sample_format) for part in _slices(samples)), (b"\0" * (n_bytes % 2),)
    )
    if not long_arrays.is_in_file(samples):
        file = io.BytesIO()
        file.writelines(packed)
        return file.getvalue()
    long_file, at = long_arrays.zeros(8 + riff_bytes, np.uint8), 0
    for part in packed:
        long_file[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
        long_arrays.let_go(long_file)
    return long_file.data


def write_flac(samples: NDArray[np.float32], sample_rate_hz: int, sample_format: SampleFormat) -> bytes:
    """A FLAC file; arguments as for `write_wav`.

    Raises:
        BadOption: FLAC has no float samples.
    """
    if sample_format == "float32":
        raise BadOption("sample_format=float32: flac stores pcm16 or pcm24 (ask for wav)")
    file, subtype = io.BytesIO(), "PCM_16" if sample_format == "pcm16" else "PCM_24"
    with soundfile.SoundFile(file, "w", sample_rate_hz, samples.shape[1], subtype, format="FLAC") as flac:
        for part in _slices(samples):
            steps = _steps(part, _BITS[sample_format])
            flac.write(steps.astype(np.int16) if sample_format == "pcm16" else steps << 8)
    return file.getvalue()


def write_ogg(samples: NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """An Ogg Vorbis file; arguments as for `write_wav`."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate_hz, samples.shape[1], "VORBIS", format="OGG", compression_level=_VORBIS_COMPRESSION
    ) as ogg:
        for part in _slices(samples):
            ogg.write(np.ascontiguousarray(part))
    return _renumbered(bytearray(file.getvalue()))


def _slices(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for at in range(0, len(samples), _SLICE):
        yield samples[at : at + _SLICE]
        long_arrays.let_go(samples)


def _steps(samples: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Samples as integers of so many bits: half a step up or down, ties to even, clipped."""
    full_scale = 1 << (bits - 1)
    steps = np.rint(samples.astype(np.float64) * full_scale)
    return np.clip(steps, -full_scale, full_scale - 1).astype(np.int32)


def _packed(samples: NDArray[np.float32], sample_format: SampleFormat) -> bytes:
    """Little-endian bytes of interleaved samples."""
    if sample_format == "float32":
        return samples.astype("<f4").tobytes()
    steps = _steps(samples, _BITS[sample_format]).astype("<i4")
    if sample_format == "pcm16":
        return steps.astype("<i2").tobytes()
    return np.ascontiguousarray(steps).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _renumbered(pages: bytearray) -> bytes:
    """The Ogg stream with serial number 0 (RFC 3533): every page's number and checksum replaced."""
    at = 0
    while at < len(pages):
        n_segments = pages[at + 26]
        end = at + 27 + n_segments + sum(pages[at + 27 : at + 27 + n_segments])
        pages[at + 14 : at + 18] = bytes(4)
        pages[at + 22 : at + 26] = bytes(4)
        # Ogg's checksum is zlib's polynomial with the bits of every byte in the other order and neither start nor end inverted.
        reflected = zlib.crc32(bytes(pages[at:end]).translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        pages[at + 22 : at + 26] = struct.pack("<I", int(f"{reflected:032b}"[::-1], 2))
        at = end
    return bytes(pages)
