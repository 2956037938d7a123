"""The card of a house model that somebody made from recordings of his own. Measurements are put in by `own_measures`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pianofarm_training.card import MEASURED_END, MEASURED_START
from pianofarm_training.clock import machine
from pianofarm_training.samples import SampleSet


@dataclass(frozen=True)
class Effort:
    """What it took."""

    size_name: str
    minutes: float  #: of the last run; stages that an earlier one left are not in it


def own_card(name: str, licence: str, samples: SampleSet, facts: Mapping[str, Any], effort: Effort) -> str:
    """The card, Markdown.

    Args:
        name: of the model.
        licence: of the model, as the user gave it.
        samples: the recordings.
        facts: what the configuration says of the training.
        effort: size and time.
    """
    held_out = ", ".join(str(layer + 1) for layer in facts["held_out_layers"]) or "none"
    velocities = ", ".join(f"{v:.0f}" for v in samples.velocities)
    first, last = samples.pitches[0], samples.pitches[-1]
    widest = max([b - a for a, b in zip(samples.pitches, samples.pitches[1:], strict=False)], default=0)
    return f"""# {name}

A house piano (additive synthesis and shaped noise, driven by small networks) learned from single recorded notes.

- **Data:** {samples.credit or "not stated"}. {len(samples.files)} recordings: {len(samples.pitches)} keys between MIDI pitches
  {first} and {last}, each at velocities {velocities}. Sha256 of the files: {facts["data_sha256"]}.
- **Licence:** {licence or "not stated"}.
- **Sound:** 32 kHz, two channels, any polyphony, MIDI pitches 21 to 108.

## How it was trained

`pianofarm train samples`, size {effort.size_name}, seed {facts["seed"]}: {facts["gain_steps"]} Adam steps for each gain network,
{facts["envelope_steps"]} for each envelope network, {facts["joint_steps"]} for those of the partials together,
{facts["passage_steps"]} on short passages that the model itself plays, {facts["onset_steps"]} on how loud notes begin;
{facts["parameters"]:,} learned parameters. The last run took {effort.minutes:.1f} minutes on
{machine()}, other work on them not known. Layers held out: {held_out}.

## Measured

{MEASURED_START}
Not yet.
{MEASURED_END}

## Limits

- Keys between the recorded ones are copies of the nearest recorded key, tuned to their place; the widest gap here is {widest}
  semitones. Keys below {first} and above {last} are copies of those two.
- Not in such recordings, hence set by rule: damping by felt, half-pedal, una corda, re-strikes, the noise of a key let go, the
  room's decay.
"""
