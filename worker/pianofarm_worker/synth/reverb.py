"""The room: convolution with an impulse response, block by block. Numpy only; where the response comes from is not known here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.blocks import Reblock

#: Blocks that are transformed together: NumPy's FFT takes four rows at once, in half the time of one after the other.
_TOGETHER = 4

#: Transforms are at least this long, and so much longer than the response; both found by trying. Five times a power of two is as
#: fast for its length as a power of two, and lies between them.
_SHORTEST_FFT, _RESPONSES_AN_FFT = 4096, 3.4


def with_dry(ir: NDArray[np.float32]) -> NDArray[np.float32]:
    """The response that gives dry and wet together, as `ddsp.effects.Reverb` adds them: its first sample stands for the dry sound.

    Args:
        ir: [n_samples, ...], a learned response, whose own first sample is ignored.
    """
    response = np.array(ir, np.float32)
    response[0] = 1
    return response


class Convolver:
    """Overlap-save convolution, several long blocks at a time.

    Samples may come in chunks of any length; what comes out does not depend on how they were cut, not by a bit.
    """

    def __init__(self, ir: NDArray[np.float32], *, block: int | None = None) -> None:
        """Start in a silent room.

        Args:
            ir: [n_samples, n_channels] impulse response.
            block: samples a transform brings forward; a sample waits for four blocks at most. None: what is fastest.
        """
        self._n_ir, self._n_channels = ir.shape
        needed = _RESPONSES_AN_FFT * self._n_ir if block is None else block + self._n_ir - 1
        needed = max(needed, _SHORTEST_FFT)
        self._n_fft = min(part << int(np.ceil(np.log2(needed / part))) for part in (4, 5))
        self._block = self._n_fft - self._n_ir + 1 if block is None else block
        # "ortho" on purpose: with no factor of its own type NumPy (2.4) takes float32 through float64, three times slower.
        response = np.fft.rfft(np.asarray(ir.T, np.float32), self._n_fft, norm="ortho")
        self._response = (response * np.float32(np.sqrt(self._n_fft)))[:, None].astype(
            np.complex64
        )  # [channel, 1, bin]
        self._past = np.zeros((1, self._n_ir - 1), np.float32)  # [channel, n_ir - 1], the samples before
        self._waiting = Reblock(_TOGETHER * self._block, 1)
        self._n_in = self._n_out = 0

    def push(self, dry: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take sound, give what is finished.

        Args:
            dry: [n_samples, n_channels] or, for every channel of the response, [n_samples, 1].

        Returns:
            [n_finished, n_channels] float32: whole blocks, perhaps none.
        """
        self._n_in += len(dry)
        wet = [self._convolve(blocks) for (blocks,) in self._waiting.push(dry.T)]
        self._n_out += len(wet) * _TOGETHER * self._block
        if len(wet) == 1:
            return wet[0]
        return np.concatenate(wet) if wet else np.zeros((0, self._n_channels), np.float32)

    def finish(self, *, tail: bool) -> NDArray[np.float32]:
        """Give the rest: up to the last dry sample, or until the room is silent.

        Args:
            tail: let the room ring out, `len(ir) - 1` samples longer.
        """
        n_due = self._n_in + (self._n_ir - 1 if tail and self._n_in else 0) - self._n_out
        rest = [np.asarray(blocks) for (blocks,) in self._waiting.rest()]
        n_channels, n_rest = rest[0].shape if rest else (len(self._past), 0)
        length = _TOGETHER * self._block
        rest.append(np.zeros((n_channels, -(-n_due // length) * length - n_rest), np.float32))
        silence = np.concatenate(rest, axis=1)
        wet = [self._convolve(silence[:, at : at + length]) for at in range(0, silence.shape[1], length)]
        return np.concatenate([*wet, np.zeros((0, self._n_channels), np.float32)])[:n_due]

    def _convolve(self, dry: NDArray[np.generic]) -> NDArray[np.float32]:
        """Blocks in, [n_channels, _TOGETHER * block]; as many out, [_TOGETHER * block, n_channels]."""
        n_channels, n_new = dry.shape
        heard = np.zeros((n_channels, (_TOGETHER - 1) * self._block + self._n_fft), np.float32)
        heard[:, : self._n_ir - 1] = self._past  # one channel of silence before the first block, for all
        heard[:, self._n_ir - 1 : self._n_ir - 1 + n_new] = dry
        self._past = heard[:, n_new : n_new + self._n_ir - 1].copy()
        blocks = np.lib.stride_tricks.sliding_window_view(heard, self._n_fft, axis=1)[:, :: self._block]
        spectra = np.fft.rfft(blocks, norm="ortho")  # [channel, block, bin]
        spectra = np.multiply(spectra, self._response, out=spectra if n_channels == self._n_channels else None)
        wet = np.fft.irfft(spectra, self._n_fft, norm="ortho")[:, :, self._n_ir - 1 : self._n_ir - 1 + self._block]
        return np.asarray(wet.reshape(self._n_channels, -1).T, np.float32)
