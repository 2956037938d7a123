"""The weights of a published model by name and shape: our names, and what the authors' TensorFlow checkpoints call them.

Says which arrays a configuration has; reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pianofarm_worker.synth.published.configs import PublishedConfig


@dataclass(frozen=True)
class Variable:
    """One weight."""

    name: str  #: ours, in `model.safetensors`
    source: str  #: theirs, in a checkpoint, without the suffix every name has
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]  #: ours: the same values, axes of length 1 taken away or added


def variables(config: PublishedConfig) -> list[Variable]:
    """Every weight of a configuration."""
    return [
        *_context(config),
        *_monophonic(config),
        *_tuning(config),
        *_reverb(config),
        Variable("release_s", "model/note_release/layer/cell/release_duration", (), ()),
    ]


def _same(name: str, source: str, *shape: int) -> Variable:
    return Variable(name, source, shape, shape)


def _dense(name: str, source: str, n_in: int, n_out: int) -> Iterator[Variable]:
    yield _same(f"{name}/kernel", f"{source}/kernel", n_in, n_out)
    yield _same(f"{name}/bias", f"{source}/bias", n_out)


def _gru(name: str, source: str, n_in: int, n_units: int) -> Iterator[Variable]:
    yield _same(f"{name}/kernel", f"{source}/cell/kernel", n_in, 3 * n_units)
    yield _same(f"{name}/recurrent_kernel", f"{source}/cell/recurrent_kernel", n_units, 3 * n_units)
    yield _same(f"{name}/bias", f"{source}/cell/bias", 2, 3 * n_units)


def _layer_norm(name: str, source: str, n: int) -> Iterator[Variable]:
    yield _same(f"{name}/gamma", f"{source}/gamma", n)
    yield _same(f"{name}/beta", f"{source}/beta", n)


def _stack(name: str, source: str, n_in: int, n_out: int, n_layers: int) -> Iterator[Variable]:
    for i in range(n_layers):
        layer = f"{source}/layer_with_weights-{i}"
        yield from _dense(f"{name}/{i}", f"{layer}/layer_with_weights-0", n_in if i == 0 else n_out, n_out)
        yield from _layer_norm(f"{name}/{i}", f"{layer}/layer_with_weights-1", n_out)


def _normalize(name: str, source: str, n: int) -> Iterator[Variable]:
    for part in ("scale", "shift"):
        yield Variable(f"{name}/{part}", f"{source}/{part}", (1, 1, 1, n), (n,))


def _context(config: PublishedConfig) -> Iterator[Variable]:
    net, source = config.context, "model/context_network"
    n_notes = 2 * config.n_voices
    if net.kind == "film":
        n_half = net.n_out
        yield from _stack("context/notes", f"{source}/conditioning_head", n_notes, n_half, 2)
        yield from _stack("context/pedals", f"{source}/pedal_head", 4, n_half // 2, 2)
        yield _same("context/piano", f"{source}/piano_id_head/embeddings", config.n_pianos, config.n_embedding)
        main = f"{source}/main_model/layer_with_weights"
        yield from _dense("context/dense", f"{main}-0", n_half + n_half // 2, net.n_dense)
        yield from _gru("context/gru", f"{main}-1", net.n_dense, net.n_gru)
        yield from _dense("context/after", f"{main}-2", net.n_gru, net.n_dense)
        yield from _layer_norm("context/after", f"{main}-3", net.n_dense)
        yield from _dense("context/film", f"{source}/film_input_reshape", config.n_embedding, 2 * net.n_dense)
        yield from _stack("context/out", f"{source}/output_layer", net.n_dense, net.n_out, 2)
        return
    n_in = 4 if net.kind == "pedal" else n_notes + 4 + config.n_embedding
    model = f"{source}/model/layer_with_weights"
    yield from _dense("context/dense", f"{model}-0", n_in, net.n_dense)
    yield from _gru("context/gru", f"{model}-1", net.n_dense, net.n_gru)
    yield from _normalize("context/norm", f"{model}-2", net.n_gru)
    yield from _dense("context/out", f"{source}/dense_out", net.n_gru, net.n_out)
    if config.n_embedding:
        yield _same("context/piano", "model/z_encoder/embedding/embeddings", config.n_pianos, config.n_embedding)


def _monophonic(config: PublishedConfig) -> Iterator[Variable]:
    net, source = config.monophonic, "model/monophonic_network"
    n_context, n = config.context.n_out, net.n_dense
    if net.kind == "stacks":
        for i, (name, n_in) in enumerate((("pitch", 1), ("notes", 2), ("context", n_context))):
            yield from _stack(f"mono/{name}", f"{source}/input_stacks/{i}", n_in, n, net.n_layers)
        yield from _gru("mono/gru", f"{source}/model/layer_with_weights-0/rnn", 3 * n, net.n_gru)
        yield from _stack("mono/after", f"{source}/out_stack", 3 * n + net.n_gru, n, net.n_layers)
        yield from _dense("mono/out", f"{source}/dense_out", n, config.n_controls)
        return
    model = f"{source}/model/layer_with_weights"
    yield from _dense("mono/dense", f"{model}-0", 3 + n_context, n)
    yield from _gru("mono/gru", f"{model}-1", n, net.n_gru)
    yield from _dense("mono/after", f"{model}-2", net.n_gru, net.n_gru)
    if net.normalize:
        yield from _normalize("mono/norm", f"{model}-3", net.n_gru)
    yield from _dense("mono/out", f"{source}/dense_out", net.n_gru, config.n_controls)


def _tuning(config: PublishedConfig) -> Iterator[Variable]:
    source = "model/inharm_model"
    if config.tuning.kind == "joint":
        for name in ("alpha_b", "beta_b", "alpha_t", "beta_t", "pitch_ref", "K", "alpha"):
            yield Variable(f"tuning/{name}", f"{source}/{name}/embeddings", (config.n_pianos, 1), (config.n_pianos,))
        return
    for name, n in (("model_specific_weight", 1), ("slopes", 2), ("offsets", 2)):
        yield _same(f"tuning/{name}", f"{source}/{name}", n)
    for name in ("slopes_modifier", "offsets_modifier"):
        yield _same(f"tuning/{name}", f"{source}/{name}", 2)
    if config.n_embedding:
        one_each = (config.n_pianos, 1), (config.n_pianos,)
        yield Variable("tuning/piano_inharmonicity", "model/z_encoder/inharm_embedding/embeddings", *one_each)
        yield Variable("tuning/piano_detuning", "model/z_encoder/detune_embedding/embeddings", *one_each)
    if config.tuning.kind == "detuner":
        yield from _dense("tuning/detuner", "model/detuner/layer", 1, config.tuning.n_strings)


def _reverb(config: PublishedConfig) -> Iterator[Variable]:
    room, n = config.reverb, config.n_pianos
    if room.kind == "impulse_response":
        source = "model/reverb_model/reverb_dict/layer_with_weights-0/embeddings"
        yield _same("reverb/ir", source, n, room.n_samples)
        return
    lines, early = room.n_lines, room.n_early
    if not room.learned_delays:
        source = "model/reverb_model/_"
        for name, theirs, size in (
            ("input_gain", "input_gain", lines),
            ("output_gain", "output_gain", lines),
            ("allpass_gain", "gain_allpass", 4 * lines),
            ("allpass_delay", "delays_allpass", 4 * lines),
            ("early", "early_ir", early),
        ):
            yield _same(f"reverb/{name}", f"{source}{theirs}/embeddings", n, size)
        yield Variable("reverb/reverberation_s", f"{source}time_rev_0_sec/embeddings", (n, 1), (n,))
        yield Variable("reverb/tone", f"{source}alpha_tone/embeddings", (n, 1), (n,))
        return
    source = "model/processor_group/DelayNetwork/"
    for name, theirs, source_shape, shape in (
        ("input_gain", "Input gain", (lines,), (1, lines)),
        ("output_gain", "Output gain", (lines,), (1, lines)),
        ("allpass_gain", "Allpass filters gains", (lines, 4), (1, lines, 4)),
        ("allpass_delay", "Delay allpass", (lines, 4), (1, lines, 4)),
        ("early", "Early ir", (early,), (1, early)),
        ("delay", "Delay values", (lines,), (1, lines)),
        ("reverberation_s", "Reverberation time (s) at 0 Hz", (), (1,)),
        ("tone", "_alpha_tone", (), (1,)),
    ):
        yield Variable(f"reverb/{name}", f"{source}{theirs}", source_shape, shape)
