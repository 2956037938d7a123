"""The model card: what a model was made from, how, how good it is and where it ends. Measurements are put in by `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What `evaluate` writes stands between these lines.
MEASURED_START, MEASURED_END = "<!-- measured -->", "<!-- /measured -->"


def model_card(name: str, licence: str, facts: Mapping[str, Any], took_s: Mapping[str, float], machine: str) -> str:
    """The card of a freshly trained model, in Markdown, not measured yet.

    Args:
        name: of the model.
        licence: of the model.
        facts: what the configuration says of its training.
        took_s: seconds by the clock, all runs together, by part of the work.
        machine: what it was trained on.
    """
    parts = ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in took_s.items())
    held_out = ", ".join(str(layer + 1) for layer in facts["held_out_layers"]) or "none"
    n_passage_steps, n_onset_steps = facts.get("passage_steps", 0), facts.get("onset_steps", 0)
    passages = (
        f"""Then {n_passage_steps} steps end to end
on short passages that the model itself plays in JAX, against the same passages of recordings, with DDSP's multi-scale spectral
loss."""
        if n_passage_steps
        else "There was no stage on rendered passages."
    )
    onsets = (
        f"""Last, {n_onset_steps} steps
on the level of every note's first 50 ms as the model plays them, the errors of all partials held down beside it."""
        if n_onset_steps
        else "There was no stage on the beginnings of notes."
    )
    return f"""# {name}

A piano as additive synthesis and shaped noise, its time functions, levels and velocity response learned by small networks.

- **Data:** {facts["data"]}. {facts["recorded_keys"]} keys x {facts["layers"]} velocity layers, both channels, never mixed.
- **Licence:** {licence}; keep the credit above.
- **Sound:** 32 kHz, two channels, any polyphony, MIDI pitches 21 to 108; with and without a room (the recordings' own
  is in both).

## How it was trained

{facts["gain_steps"]} Adam steps for each gain network, {facts["envelope_steps"]} for each envelope network, then
{facts["joint_steps"]} each, a few times over, for those of the partials together: loud partials first, then all nearly alike
(loss: Huber in dB on measured partial levels and noise-band levels over time). {passages} {onsets}
Seed {facts["seed"]}; {sum(took_s.values()) / 60:.1f} minutes by the clock, all runs together ({parts}), on
{machine}, other work on them not known.
{facts["parameters"]:,} learned parameters. Layers held out, never seen by the networks: {held_out} of {facts["layers"]}, softest
first.

Measured directly rather than trained: where partials lie, their phases at the onset and rise times (on every layer or on loud
ones, held-out ones among them); the knock's modes, shared by all keys, and how each key sets them going; the room tone.

    make data && make train

## Measured

{MEASURED_START}
Not yet.
{MEASURED_END}

## Limits

- Keys between the recorded ones (two of three) are copies of the nearest recorded key, a semitone away, tuned to their place
  and brought towards the loudness of the next one.
- Not in the recordings, hence not learned but set by rule: damping by felt, half-pedal, una corda, re-strikes, the other
  strings' answer under the sustain pedal (Lehtonen et al., JASA 122, 2007), the pedal's own noise (made of the release noises).
- Strings of keys held down silently do not answer; only the sustain pedal frees the others.
- The room's decay is measured on the release noises; how much of it is added is a choice.
- A knock is one recorded stroke per key, scaled with velocity. The recordings' rumble below 200 Hz is left out.
"""


def with_measurements(card: str, measured: str) -> str:
    """The card with its measurements replaced."""
    before, _, rest = card.partition(MEASURED_START)
    _, _, after = rest.partition(MEASURED_END)
    return f"{before}{MEASURED_START}\n{measured.strip()}\n{MEASURED_END}{after}"
