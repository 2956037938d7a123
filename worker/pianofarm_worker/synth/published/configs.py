"""The published DDSP-Piano configurations as frozen values: sizes, scalings and which variant of each part. No arrays, no networks.

dafx22: Renault, Mignot, Roebel, "Differentiable Piano Model for MIDI-to-Audio Performance Synthesis", DAFx 2022. maestro-v2 and
ENSTDkCl: the later models of the same authors, "DDSP-Piano: a Neural Sound Synthesizer Informed by Instrument Knowledge",
JAES 71(9), 2023. Numbers are those of the authors' published configuration files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pianofarm_common.errors import BadModel


@dataclass(frozen=True)
class Context:
    """The network that listens to the whole instrument and tells every voice one vector a frame."""

    #: "polyphonic" hears notes, pedals and the piano's embedding; "pedal" the pedals alone; "film" hears notes and pedals and lets
    #: the piano scale and shift what it heard.
    kind: Literal["polyphonic", "pedal", "film"]
    n_dense: int
    n_gru: int
    n_out: int
    pitch_divisor: (
        float  #: what MIDI pitch is divided by on the way in: 1 (the raw number, as dafx22 was trained) or 128
    )


@dataclass(frozen=True)
class Monophonic:
    """The network that drives one voice; all voices share its weights."""

    #: "dense": dense, GRU, dense; "stacks": a stack of dense layers with layer normalisation for each input, GRU, another stack.
    kind: Literal["dense", "stacks"]
    n_dense: int
    n_gru: int
    n_layers: int  #: dense layers in a stack; 1 where there are no stacks
    normalize: bool  #: whether the output is normalised by its moments over the whole performance, per voice


@dataclass(frozen=True)
class Tuning:
    """How pitch and piano become string frequencies and inharmonicity (Rigaud et al., DAFx 2011)."""

    #: "detuner": equal temperament, each string detuned; "parametric": the Railsback curve from the inharmonicity of one
    #: piano; "joint": the same with seven fitted parameters a piano.
    kind: Literal["detuner", "parametric", "joint"]
    n_strings: int


@dataclass(frozen=True)
class Synthesis:
    """How the network's output becomes amplitudes of partials and magnitudes of noise bands."""

    n_partials: int
    n_noise_bands: int
    scale: Literal["exp_sigmoid", "exp_tanh"]
    #: Whether the partials above the Nyquist frequency are left out before the others are normalised to the sum 1, or after.
    normalize_audible: bool
    noise_bias: float = -5.0  #: added to the noise logits
    noise_window: int = 257  #: taps of a noise filter
    min_frequency_hz: float = 20.0  #: a fundamental at or below sounds no partials


@dataclass(frozen=True)
class Reverb:
    """The room: an impulse response, or a network of delay lines that has one (Jot & Chaigne, AES 1991)."""

    kind: Literal["impulse_response", "delay_network"]
    n_samples: int  #: length of the impulse response
    adds_dry: bool  #: whether the dry sound passes beside the room, the response's first sample being ignored
    n_lines: int = 0
    n_early: int = 0  #: samples of the early reflections
    learned_delays: bool = False  #: whether the delay lines' lengths are weights; otherwise the fixed ones below
    fixed_delays: tuple[float, ...] = ()


@dataclass(frozen=True)
class PublishedConfig:
    """One published model, but for its weights."""

    name: str
    architecture: str
    sample_rate_hz: int
    n_pianos: int
    default_piano: int
    n_embedding: int  #: size of the piano embedding; 0: none
    context: Context
    monophonic: Monophonic
    tuning: Tuning
    synthesis: Synthesis
    reverb: Reverb
    n_voices: int = 16
    frame_rate_hz: int = 250

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return self.sample_rate_hz // self.frame_rate_hz

    @property
    def n_controls(self) -> int:
        """Outputs of the monophonic network: one amplitude, the partials, the noise bands."""
        return 1 + self.synthesis.n_partials + self.synthesis.n_noise_bands

    def to_json(self) -> dict[str, Any]:
        """Plain values for `config.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PublishedConfig:
        """The configuration that `to_json` wrote.

        Raises:
            BadModel: a field is missing, unknown or of no use.
        """
        try:
            parts = dict(values)
            parts["context"] = Context(**parts["context"])
            parts["monophonic"] = Monophonic(**parts["monophonic"])
            parts["tuning"] = Tuning(**parts["tuning"])
            parts["synthesis"] = Synthesis(**parts["synthesis"])
            reverb = dict(parts["reverb"])
            parts["reverb"] = Reverb(**{**reverb, "fixed_delays": tuple(reverb["fixed_delays"])})
            return cls(**parts)
        except (TypeError, KeyError, ValueError) as error:
            raise BadModel(
                f"the model's configuration is damaged: {type(error).__name__} {error} (import it again)"
            ) from None


DAFX22 = PublishedConfig(
    name="dafx22",
    architecture="dafx22",
    sample_rate_hz=16_000,
    n_pianos=10,
    default_piano=3,
    n_embedding=16,
    context=Context(kind="polyphonic", n_dense=32, n_gru=64, n_out=32, pitch_divisor=1.0),
    monophonic=Monophonic(kind="dense", n_dense=128, n_gru=192, n_layers=1, normalize=True),
    tuning=Tuning(kind="detuner", n_strings=2),
    synthesis=Synthesis(n_partials=96, n_noise_bands=64, scale="exp_sigmoid", normalize_audible=True),
    reverb=Reverb(kind="impulse_response", n_samples=24_000, adds_dry=True),
)

MAESTRO_V2 = PublishedConfig(
    name="maestro-v2",
    architecture="maestro-v2",
    sample_rate_hz=24_000,
    n_pianos=10,
    default_piano=3,
    n_embedding=32,
    context=Context(kind="film", n_dense=64, n_gru=64, n_out=32, pitch_divisor=128.0),
    monophonic=Monophonic(kind="stacks", n_dense=64, n_gru=192, n_layers=3, normalize=False),
    tuning=Tuning(kind="joint", n_strings=1),
    synthesis=Synthesis(n_partials=128, n_noise_bands=96, scale="exp_sigmoid", normalize_audible=True),
    reverb=Reverb(
        kind="delay_network",
        n_samples=48_000,
        adds_dry=True,
        n_lines=8,
        n_early=200,
        fixed_delays=(233.0, 311.0, 421.0, 461.0, 587.0, 613.0, 789.0, 891.0),
    ),
)

ENSTDKCL_8KHZ = PublishedConfig(
    name="ENSTDkCl-8kHz",
    architecture="enstdkcl",
    sample_rate_hz=8_000,
    n_pianos=1,
    default_piano=0,
    n_embedding=0,
    context=Context(kind="pedal", n_dense=32, n_gru=32, n_out=32, pitch_divisor=1.0),
    monophonic=Monophonic(kind="dense", n_dense=128, n_gru=128, n_layers=1, normalize=False),
    tuning=Tuning(kind="parametric", n_strings=1),
    synthesis=Synthesis(n_partials=48, n_noise_bands=32, scale="exp_tanh", normalize_audible=False),
    reverb=Reverb(kind="delay_network", n_samples=16_000, adds_dry=False, n_lines=8, n_early=200, learned_delays=True),
)

ENSTDKCL_32KHZ = PublishedConfig(
    name="ENSTDkCl-32kHz",
    architecture="enstdkcl",
    sample_rate_hz=32_000,
    n_pianos=1,
    default_piano=0,
    n_embedding=16,
    context=Context(kind="polyphonic", n_dense=32, n_gru=64, n_out=32, pitch_divisor=128.0),
    monophonic=Monophonic(kind="dense", n_dense=128, n_gru=192, n_layers=1, normalize=False),
    tuning=Tuning(kind="parametric", n_strings=1),
    synthesis=Synthesis(n_partials=192, n_noise_bands=128, scale="exp_tanh", normalize_audible=False),
    reverb=Reverb(kind="delay_network", n_samples=64_000, adds_dry=False, n_lines=6, n_early=200, learned_delays=True),
)

#: Every configuration the authors published, the likeliest first.
PUBLISHED = (DAFX22, MAESTRO_V2, ENSTDKCL_8KHZ, ENSTDKCL_32KHZ)
