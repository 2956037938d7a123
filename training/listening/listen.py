"""ViSQOL, Zimtohrli and Transkun on sound files; runs in `.venv-ears`, apart from pianofarm, which it must not import.

Reads one JSON object from standard input and writes one to standard output:

    {"compare": [[ours.wav, theirs.wav], ...], "transcribe": [a.wav, ...]}
    {"compare": [{"visqol": .., "zimtohrli": ..}, ...], "transcribe": [[[onset_s, offset_s, pitch, velocity], ...], ...]}

Files to compare are 48 kHz with as many channels as each other and of one loudness; a figure is the mean over the channels.
ViSQOL in audio mode (Chinen et al., QoMEX 2020) is a predicted opinion, 1 to 4.75 at most; Zimtohrli a distance, 0 to 1.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
import types
from typing import Any

import numpy as np
import soundfile

#: Silence between sounds that are transcribed in one go.
BETWEEN_S = 2.0


def compare(pairs: list[list[str]]) -> list[dict[str, float]]:
    """Each pair's distances; the second of a pair is the reference."""
    if not pairs:
        return []
    from visqol import VisqolApi
    from zimtohrli import Pyohrli

    visqol, zimtohrli = VisqolApi(), Pyohrli()
    visqol.create(mode="audio")
    found = []
    for ours_path, theirs_path in pairs:
        (ours, rate_hz), (theirs, _) = (soundfile.read(path, always_2d=True) for path in (ours_path, theirs_path))
        n = min(len(ours), len(theirs))
        channels = [(ours[:n, channel].copy(), theirs[:n, channel].copy()) for channel in range(ours.shape[1])]
        opinions = [visqol.measure_from_arrays(theirs, ours, sample_rate=rate_hz).moslqo for ours, theirs in channels]
        distances = [
            zimtohrli.distance(theirs.astype(np.float32), ours.astype(np.float32)) for ours, theirs in channels
        ]
        found.append({"visqol": float(np.mean(opinions)), "zimtohrli": float(np.mean(distances))})
    return found


def transcribe(paths: list[str]) -> list[list[list[float]]]:
    """Notes heard in each file by Transkun 2.0 (Yan and Duan, ISMIR 2024) with the weights that its package carries."""
    if not paths:
        return []
    import soxr

    sys.modules["torchaudio"] = _torchaudio()
    import moduleconf
    import torch

    pretrained = importlib.resources.files("transkun") / "pretrained"
    configured = moduleconf.parseFromFile(str(pretrained / "2.0.conf"))["Model"]
    model = configured.module.TransKun(conf=configured.config)
    checkpoint = torch.load(str(pretrained / "2.0.pt"), map_location="cpu")
    model.load_state_dict(checkpoint.get("best_state_dict", checkpoint.get("state_dict")), strict=False)
    model.eval()
    torch.set_grad_enabled(False)
    # One sound after the other in one piece: every call begins and ends with eight seconds of silence of its own.
    parts, begins_s, length = [], [], 0
    for path in paths:
        sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        sound = soxr.resample(sound, rate_hz, model.fs)
        begins_s.append(length / model.fs)
        parts += [sound, np.zeros((round(BETWEEN_S * model.fs), sound.shape[1]), np.float32)]
        length += len(sound) + len(parts[-1])
    notes = model.transcribe(torch.from_numpy(np.concatenate(parts)))
    heard: list[list[list[float]]] = [[] for _ in paths]
    for note in notes:
        if note.pitch > 0:  # negative ones are its pedals
            which = int(np.searchsorted(begins_s, float(note.start) + BETWEEN_S / 2, side="right")) - 1
            begin_s = begins_s[which]
            heard[which].append(
                [float(note.start) - begin_s, float(note.end) - begin_s, int(note.pitch), int(note.velocity)]
            )
    return heard


def _torchaudio() -> Any:
    """A stand-in for torchaudio, of which Transkun calls one function when it is built: triangular mel filters."""
    import torch

    def melscale_fbanks(*, n_freqs: int, f_min: float, f_max: float, n_mels: int, sample_rate: int) -> torch.Tensor:
        """Unnormalised triangles, even on the mel scale 2595 log10(1 + f / 700). [n_freqs, n_mels]"""
        low, high = (2595 * np.log10(1 + f / 700) for f in (f_min, f_max))
        corners_hz = 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)
        hz = np.linspace(0, sample_rate // 2, n_freqs)[:, None]
        rising = (hz - corners_hz[:-2]) / np.diff(corners_hz)[:-1]
        falling = (corners_hz[2:] - hz) / np.diff(corners_hz)[1:]
        return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))

    module = types.ModuleType("torchaudio")
    module.functional = types.SimpleNamespace(melscale_fbanks=melscale_fbanks)
    return module


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answer = {"compare": compare(asked["compare"]), "transcribe": transcribe(asked["transcribe"])}
    json.dump(answer, sys.stdout)
