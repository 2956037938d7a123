"""The card of a model of a published architecture that somebody trained on recordings of his own. Measures nothing."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pianofarm_training.clock import machine
from pianofarm_training.naming import Naming
from pianofarm_training.published.loop import Outcome
from pianofarm_worker.synth.published.configs import PublishedConfig


def pair_card(
    naming: Naming, config: PublishedConfig, facts: dict[str, Any], outcome: Outcome, measured: str, minutes: float
) -> str:
    """The card, Markdown.

    Args:
        naming: of the model.
        config: of the model.
        facts: what its configuration says of the training.
        outcome: of the loop.
        measured: renders against recordings, Markdown.
        minutes: that the last run took.
    """
    pianos = ", ".join(f"{number}: {name or 'the recordings'}" for number, name in enumerate(facts["pianos"]))
    origin = "random weights" if facts["from"] is None else f"the model {facts['from'][:12]}"
    return f"""# {naming.name}

DDSP-Piano, architecture `{config.architecture}` (L. Renault, R. Mignot, A. Roebel, DAFx 2022 and JAES 71(9), 2023), trained on
recordings with their MIDI.

- **Data:** {naming.credit or "not stated"}. {facts["recordings"]} recordings, {facts["hours"]:g} hours, of which
  {facts["held_out"]} recordings were held out; left channels. Sha256 of the files: {facts["data_sha256"]}.
- **Licence:** {naming.licence or "not stated"}.
- **Sound:** {config.sample_rate_hz} Hz, mono, at most {config.n_voices} notes at a time. Pianos (`--piano`): {pianos}.

## How it was trained

`pianofarm train pairs`, from {origin}: {facts["steps"]} Adam steps of {facts["batch_size"]} excerpts
of {facts["excerpt_s"]:g} s, seed {facts["seed"]}. The last run made {outcome.n_steps_now} of them in {minutes:.1f} minutes
on {machine()} {_devices()}, other work on them not known.

## Measured

- Spectral loss on training excerpts, first and last step: {_change(outcome.first_loss, outcome.last_loss)}.
- On held-out excerpts, before and after: {_change(outcome.first_validation, outcome.last_validation)}.

{measured}

## Limits

- Past {config.n_voices} notes at a time the lowest are left out; one channel.
- What the recordings' own piano, room and microphones were is in the model and cannot be taken out of it.
"""


def _change(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "not measured: no recording was held out"
    return f"{first:.3f} -> {last:.3f}"


def _devices() -> str:
    devices = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(device).get("device_name", "a GPU") for device in devices]
    return f"and {', '.join(names)}" if names else "without a GPU"
