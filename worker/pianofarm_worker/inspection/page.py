"""One page about a rendered file: waveform, spectrogram, piano roll, levels over velocities, and a player. Needs no other file.

Pictures are drawn on one time axis, so that a mark that follows the player crosses all of them. Measures nothing.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import Template

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import Performance
from pianofarm_worker.inspection.levels import FloatArray
from pianofarm_worker.inspection.spectrogram import LOWEST_HZ, coloured, png, spectrogram_dbfs

#: Width of the pictures: enough for this many pixels a second, within bounds.
PIXELS_PER_S, NARROWEST_PX, WIDEST_PX = 60.0, 1000, 8000

WAVE_PX, SPECTRUM_PX, ROLL_PX = 120, 320, 300

#: The plot of levels over velocities.
PLOT_PX, PLOT_MARGIN_PX = (560, 330), 44


@dataclass(frozen=True)
class Inspection:
    """Everything that the page shows."""

    title: str
    facts: tuple[tuple[str, str], ...]  #: name and value
    samples: NDArray[np.float32]  #: [n_samples, n_channels]
    sample_rate_hz: int
    performance: Performance  #: on the same clock as the samples
    is_dropped: NDArray[np.bool_]  #: [n_notes]
    levels_dbfs: FloatArray  #: [n_notes], NaN: not measured
    audio: bytes  #: what the player plays
    media_type: str

    @property
    def length_s(self) -> float:
        """Of the samples."""
        return len(self.samples) / self.sample_rate_hz


def page_of(seen: Inspection) -> str:
    """The page, as HTML."""
    width = int(np.clip(seen.length_s * PIXELS_PER_S, NARROWEST_PX, WIDEST_PX))
    spectrum = png(coloured(spectrogram_dbfs(seen.samples, seen.sample_rate_hz, width, SPECTRUM_PX)))
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in seen.facts)
    return _PAGE.substitute(
        title=html.escape(seen.title),
        facts=rows,
        media_type=seen.media_type,
        audio=base64.b64encode(seen.audio).decode(),
        width=width,
        length_s=f"{seen.length_s:.6f}",
        wave=_svg(width, WAVE_PX, _wave(seen.samples, width)),
        spectrum=base64.b64encode(spectrum).decode(),
        spectrum_px=SPECTRUM_PX,
        hertz=_hertz(seen.sample_rate_hz / 2),
        roll=_svg(width, ROLL_PX, _roll(seen, width)),
        seconds=_svg(width, 18, _seconds(seen.length_s, width)),
        levels=_levels(seen),
    )


def _svg(width: int, height: int, parts: Iterable[str]) -> str:
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'


def _wave(samples: NDArray[np.float32], width: int) -> Iterator[str]:
    """Lowest and highest sample of each pixel, a band a channel."""
    n_channels = samples.shape[1]
    band = WAVE_PX / n_channels
    edges = np.linspace(0, len(samples), width, endpoint=False).astype(int)
    for channel in range(n_channels):
        lowest = np.minimum.reduceat(samples[:, channel], edges)
        highest = np.maximum.reduceat(samples[:, channel], edges)
        middle = (channel + 0.5) * band
        top, bottom = middle - highest.clip(-1, 1) * band / 2, middle - lowest.clip(-1, 1) * band / 2
        lines = (
            f"M{x}.5 {a:.1f}V{b:.1f}" for x, (a, b) in enumerate(zip(top, np.maximum(bottom, top + 0.5), strict=True))
        )
        yield f'<path d="{"".join(lines)}" stroke="#2a6f97" fill="none"/>'
        yield f'<path d="M0 {middle:.1f}H{width}" stroke="#0003"/>'


def _roll(seen: Inspection, width: int) -> Iterator[str]:
    """Notes by pitch, coloured by velocity; those without a voice in red."""
    notes = seen.performance
    if not notes.n_notes():
        return
    lowest, highest = int(notes.pitch.min()) - 2, int(notes.pitch.max()) + 2
    row = ROLL_PX / (highest - lowest + 1)
    for pitch in range(lowest, highest + 1):
        if pitch % 12 == 0:
            y = (highest - pitch + 1) * row
            yield f'<path d="M0 {y:.1f}H{width}" stroke="#0002"/><text x="2" y="{y - 2:.1f}">C{pitch // 12 - 1}</text>'
    scale = width / seen.length_s
    for onset_s, offset_s, pitch, velocity, dropped, level_dbfs in zip(
        notes.onset_s, notes.offset_s, notes.pitch, notes.velocity, seen.is_dropped, seen.levels_dbfs, strict=True
    ):
        colour = "#d00000" if dropped else f"hsl(205 60% {88 - velocity * 0.6:.0f}%)"
        about = f"pitch {pitch}, velocity {velocity}, {onset_s:.3f} to {offset_s:.3f} s"
        about += ", dropped: no voice" if dropped else ""
        about += f", {level_dbfs:.1f} dBFS" if np.isfinite(level_dbfs) else ""
        yield (
            f'<rect x="{onset_s * scale:.1f}" y="{(highest - pitch) * row:.1f}" height="{max(row - 0.5, 1):.1f}" '
            f'width="{max((offset_s - onset_s) * scale, 1):.1f}" fill="{colour}"><title>{about}</title></rect>'
        )


def _seconds(length_s: float, width: int) -> Iterator[str]:
    step_s = next(step for step in (1, 2, 5, 10, 30, 60, 300, 900, 3600) if step * width / length_s >= 50)
    for second in np.arange(0, length_s, step_s):
        yield f'<text x="{second * width / length_s:.1f}" y="13">{int(second) // 60}:{int(second) % 60:02}</text>'


def _hertz(highest_hz: float) -> str:
    """Marks on the left edge of the spectrogram."""
    octaves = np.log(highest_hz / LOWEST_HZ)
    marks = (hz for hz in (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000) if hz < highest_hz)
    return "".join(
        f'<span class="hz" style="top:{SPECTRUM_PX * (1 - np.log(hz / LOWEST_HZ) / octaves):.0f}px">{hz} Hz</span>'
        for hz in marks
    )


def _levels(seen: Inspection) -> str:
    """Level of every measured note over its velocity, coloured by pitch."""
    width, height = PLOT_PX
    measured = np.flatnonzero(np.isfinite(seen.levels_dbfs))
    if not len(measured):
        return "<p>No note could be measured: each is hidden by others, or lies outside of the file.</p>"
    levels_db = seen.levels_dbfs[measured]
    lowest, highest = np.floor(levels_db.min() / 10) * 10, np.ceil(levels_db.max() / 10) * 10 + 1e-9

    def x(velocity: float) -> float:
        return PLOT_MARGIN_PX + velocity / 127 * (width - PLOT_MARGIN_PX - 24)

    def y(level_db: float) -> float:
        return float(10 + (highest - level_db) / (highest - lowest) * (height - PLOT_MARGIN_PX - 10))

    parts = [
        f'<path d="M{x(0):.0f} {y(level):.1f}H{width}" stroke="#0002"/><text x="2" y="{y(level) + 4:.1f}">{level:.0f}</text>'
        for level in np.arange(lowest, highest + 1, 10)
    ]
    parts += [f'<text x="{x(v):.0f}" y="{height - 24}">{v}</text>' for v in (0, 32, 64, 96, 127)]
    parts.append(
        f'<text x="{width // 2 - 30}" y="{height - 6}">velocity</text><text x="2" y="{height - 6}">dBFS</text>'
    )
    for note, level_db in zip(measured, levels_db, strict=True):
        pitch, velocity = int(seen.performance.pitch[note]), int(seen.performance.velocity[note])
        parts.append(
            f'<circle cx="{x(velocity):.1f}" cy="{y(level_db):.1f}" r="3" fill="hsl({(108 - pitch) * 2.9:.0f} 70% 45% / .6)">'
            f"<title>pitch {pitch}, velocity {velocity}, {level_db:.1f} dBFS</title></circle>"
        )
    return _svg(width, height, parts)


_PAGE = Template("""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>$title</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #1b1b1b; background: #fff }
h1 { font-size: 1.3em } h2 { font-size: 1em; margin: 1.2em 0 .3em }
th { text-align: left; font-weight: normal; color: #666; padding-right: 1.5em } audio { width: 100%; max-width: 60em }
#scroll { overflow-x: auto; border: 1px solid #ccc } #time { position: relative; width: ${width}px; cursor: crosshair }
#time > * { display: block } #mark { position: absolute; top: 0; bottom: 0; width: 1px; background: #e63946 }
.spectrum { position: relative } .spectrum img { display: block } svg text { font-size: 10px; fill: #555 }
.hz { position: absolute; left: 2px; font-size: 10px; color: #fffc; transform: translateY(-50%) }
.key b { display: inline-block; width: 1em; height: .7em; margin: 0 .3em 0 1em }
</style>
<h1>$title</h1>
<table>$facts</table>
<p><audio id="player" controls src="data:$media_type;base64,$audio"></audio></p>
<div id="scroll"><div id="time">$wave<div class="spectrum"><img alt="spectrogram" width="$width" height="$spectrum_px"
src="data:image/png;base64,$spectrum">$hertz</div>$roll$seconds<div id="mark"></div></div></div>
<p class="key">Waveform, spectrogram (logarithmic, 90 dB), piano roll:<b style="background:hsl(205 60% 80%)"></b>soft<b
style="background:hsl(205 60% 20%)"></b>loud<b style="background:#d00000"></b>dropped, no voice. A click plays from there.</p>
<h2>Level of each note over its velocity</h2>
$levels
<p class="key">The strongest partial that no other note hides, in the quarter of a second after the onset;<b
style="background:hsl(250 70% 45%)"></b>bass<b style="background:hsl(130 70% 45%)"></b>middle<b
style="background:hsl(10 70% 45%)"></b>treble.</p>
<script>
const [player, scroll, time, mark] = ["player", "scroll", "time", "mark"].map(id => document.getElementById(id));
const length = $length_s;
time.addEventListener("click", event => {
  player.currentTime = (event.clientX - time.getBoundingClientRect().left) / time.clientWidth * length; player.play(); });
(function follow() {
  const x = player.currentTime / length * time.clientWidth;
  mark.style.left = x + "px";
  if (!player.paused && (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth)) scroll.scrollLeft = x - 40;
  requestAnimationFrame(follow);
})();
</script></html>
""")
