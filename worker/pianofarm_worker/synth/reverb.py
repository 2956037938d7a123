"""The room: convolution with an impulse response, block by block. Numpy only; where the response comes from is not known here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.blocks import Reblock


def with_dry(ir: NDArray[np.float32]) -> NDArray[np.float32]:
    """The response that gives dry and wet together, as `ddsp.effects.Reverb` adds them: its first sample stands for the dry sound.

    Args:
        ir: [n_samples, ...], a learned response, whose own first sample is ignored.
    """
    response = np.array(ir, np.float32)
    response[0] = 1
    return response


class Convolver:
    """Overlap-save convolution in partitions of one block (Gardner, "Efficient convolution without input-output delay", 1995).

    Samples may come in chunks of any length; what comes out does not depend on how they were cut, not by a bit.
    """

    def __init__(self, ir: NDArray[np.float32], *, block: int = 16384) -> None:
        """Start in a silent room.

        Args:
            ir: [n_samples, n_channels] impulse response.
            block: samples worked on at once: the longest that a sample waits. A power of two is fastest.
        """
        self._block = block
        self._n_ir, self._n_channels = ir.shape
        n_parts = -(-self._n_ir // block)
        padded = np.zeros((self._n_channels, n_parts * block), np.float32)
        padded[:, : self._n_ir] = ir.T
        parts = padded.reshape(self._n_channels, n_parts, block)
        self._response = np.fft.rfft(parts, 2 * block).transpose(1, 0, 2).astype(np.complex64)  # [part, channel, bin]
        # Spectra of the newest blocks, newest first from `_newest` on; every one is there twice, so that none has to be moved.
        self._spectra = np.zeros((2 * n_parts, 1, block + 1), np.complex64)  # [part, channel, bin]
        self._newest = 0
        self._last = np.zeros((1, block), np.float32)  # [channel, block], the block before
        self._waiting = Reblock(block, 0)
        self._n_in = self._n_out = 0

    def push(self, dry: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take sound, give what is finished.

        Args:
            dry: [n_samples, n_channels] or, for every channel of the response, [n_samples, 1].

        Returns:
            [n_finished, n_channels] float32: whole blocks, perhaps none.
        """
        self._n_in += len(dry)
        wet = [self._convolve(block) for (block,) in self._waiting.push(dry)]
        self._n_out += len(wet) * self._block
        return np.concatenate(wet) if wet else np.zeros((0, self._n_channels), np.float32)

    def finish(self, *, tail: bool) -> NDArray[np.float32]:
        """Give the rest: up to the last dry sample, or until the room is silent.

        Args:
            tail: let the room ring out, `len(ir) - 1` samples longer.
        """
        n_due = self._n_in + (self._n_ir - 1 if tail and self._n_in else 0) - self._n_out
        rest = [np.asarray(block) for (block,) in self._waiting.rest()]
        n_rest = len(rest[0]) if rest else 0
        n_channels = rest[0].shape[1] if rest else len(self._last)
        rest.append(np.zeros((-(-n_due // self._block) * self._block - n_rest, n_channels), np.float32))
        silence = np.concatenate(rest)
        wet = [self._convolve(silence[at : at + self._block]) for at in range(0, len(silence), self._block)]
        return np.concatenate([*wet, np.zeros((0, self._n_channels), np.float32)])[:n_due]

    def _convolve(self, dry: NDArray[np.generic]) -> NDArray[np.float32]:
        """One block in, one block out, [block, n_channels]."""
        n_parts, block = len(self._response), np.ascontiguousarray(dry.T, np.float32)
        spectrum = np.fft.rfft(np.concatenate((np.broadcast_to(self._last, block.shape), block), axis=1))
        if len(block) > self._spectra.shape[1]:  # the first block says how many channels are played into the room
            self._spectra = np.repeat(self._spectra, len(block), axis=1)
        self._newest = (self._newest - 1) % n_parts
        self._spectra[self._newest] = self._spectra[self._newest + n_parts] = spectrum
        heard = self._spectra[self._newest : self._newest + n_parts]
        wet = np.einsum("pcb,pcb->cb", self._response, heard)
        self._last = block
        return np.fft.irfft(wet, 2 * self._block)[:, self._block :].T.astype(np.float32, copy=False)
