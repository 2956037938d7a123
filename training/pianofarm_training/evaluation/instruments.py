"""What is measured: the house model, the sampler, the published model, FluidSynth with its sound fonts. Measures nothing.

An instrument plays a performance as [n_samples, 2] float32 at `RATE_HZ`, the first sample at time 0; a single channel is repeated.
Rooms are off where they can be, as the recordings carry their own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import NotFound
from pianofarm_common.midi import Performance, to_pretty_midi
from pianofarm_common.models import read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.evaluation.materials import shared_folder
from pianofarm_training.sampler import Sampler
from pianofarm_training.samples import SampleSet

#: Rate at which everything is compared, and at which the house models play.
RATE_HZ = 32_000

#: Where Debian's packages put the sound fonts.
SOUND_FONTS = Path("/usr/share/sounds/sf2")

Play = Callable[[Performance], NDArray[np.float32]]


@dataclass(frozen=True)
class Instrument:
    """Something that plays."""

    name: str  #: a short name
    title: str  #: as tables have it
    same_piano: bool  #: it plays the piano of the recordings, so that distances to them mean something
    identity: str  #: changes when its sound may
    open: Callable[[], Play]  #: loads it


def house(folder: Path) -> Instrument:
    """The house model in a folder."""
    info = read_model(folder)

    def load() -> Play:
        from pianofarm_worker.synth.house.piano import HousePiano

        piano = HousePiano(info)
        gain = piano.output_gain
        return lambda performance: piano.render(performance, RenderOptions(dry=True), seed=1).dry / gain

    return Instrument("house", info.name, same_piano=True, identity=info.digest + _code("house"), open=load)


def sampler(samples: SampleSet) -> Instrument:
    """The recordings played by the sampler: the reference."""
    recordings = hashlib.sha256(repr(sorted((key, path.name) for key, path in samples.files.items())).encode())
    return Instrument(
        "sampler",
        "sampler over the recordings",
        same_piano=True,
        identity=recordings.hexdigest() + _code("house", "score.py", "dampers.py"),
        open=lambda: Sampler(samples, RATE_HZ, max_note_s=12.0).render,
    )


def published(checkpoint: Path, work_dir: Path) -> Instrument:
    """The model of Renault, Mignot and Roebel (DAFx 2022) with its authors' weights, on JAX, its own room on.

    Raises:
        NotFound: there is no checkpoint.
    """
    if not any(checkpoint.glob("*.index")):
        raise NotFound(f"no published checkpoint in {checkpoint}: set PIANOFARM_SHARED to the folder of models/dafx22")
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint

    folder = work_dir / "models" / "dafx22"
    info = read_model(folder) if folder.is_dir() else import_checkpoint(checkpoint, folder, "dafx22")

    def load() -> Play:
        from pianofarm_worker.synth.piano import load

        piano = load(info, backend="jax")

        def play(performance: Performance) -> NDArray[np.float32]:
            rendering = piano.render(performance, RenderOptions(), seed=1)
            return _stereo(rendering.wet, rendering.sample_rate_hz)

        return play

    title = "dafx22 (published model)"
    return Instrument("dafx22", title, same_piano=False, identity=info.digest + _code("published"), open=load)


def fluidsynth(name: str, title: str, font: Path) -> Instrument:
    """FluidSynth with a sound font, its reverb and chorus off.

    Raises:
        NotFound: the program or the font is missing.
    """
    program = shutil.which("fluidsynth")
    if program is None or not font.is_file():
        raise NotFound(f"{'fluidsynth' if program is None else font} is not installed: see docs/quality.md")

    def play(performance: Performance) -> NDArray[np.float32]:
        import soundfile

        with tempfile.TemporaryDirectory(prefix="pianofarm-evaluate-") as folder:
            midi, output = Path(folder) / "in.mid", Path(folder) / "out.wav"
            to_pretty_midi(performance).write(str(midi))
            command = [
                *(program, "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(RATE_HZ), "-O", "float"),
                *("-T", "wav", "-F", str(output), str(font), str(midi)),
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=1200)
            sound, rate_hz = soundfile.read(output, dtype="float32", always_2d=True)
        return _stereo(sound, rate_hz)

    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    identity = f"{said.splitlines()[0]} {font.name} {font.stat().st_size}"
    return Instrument(name, title, same_piano=False, identity=identity, open=lambda: play)


def others(work_dir: Path) -> tuple[list[Instrument], list[str]]:
    """What the house model is compared with, as far as it is here, and why the rest is missing."""
    makers: tuple[Callable[[], Instrument], ...] = (
        lambda: published(shared_folder() / "models" / "dafx22", work_dir),
        lambda: fluidsynth("fluidr3", "FluidSynth, FluidR3 GM", SOUND_FONTS / "FluidR3_GM.sf2"),
        lambda: fluidsynth(
            "musescore", "FluidSynth, MuseScore General (lossless)", SOUND_FONTS / "MuseScore_General_Full.sf2"
        ),
    )
    found, missing = [], []
    for make in makers:
        try:
            found.append(make())
        except NotFound as error:
            missing.append(str(error))
    return found, missing


def _stereo(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Two channels at `RATE_HZ`."""
    import soxr

    if sound.shape[1] == 1:
        sound = np.repeat(sound, 2, axis=1)
    return sound if rate_hz == RATE_HZ else np.asarray(soxr.resample(sound, rate_hz, RATE_HZ, quality="HQ"), np.float32)


def _code(room: str, *names: str) -> str:
    """Digest of the sources of a room of the synthesizer, or of some of them: a changed engine is another instrument."""
    import pianofarm_worker.synth as package

    root = Path(package.__path__[0])
    paths = [root / room / name for name in names] or [*sorted(root.glob("*.py")), *sorted((root / room).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
