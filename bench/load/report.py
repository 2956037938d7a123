"""Answers of the load test as Markdown, and what must hold beside what does. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import section
from bench.load.questions import Answers

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "bench" / "results" / "load.json"
PAGE = REPOSITORY / "docs" / "load.md"


@dataclass(frozen=True)
class Wish:
    """Something that must hold, as the answers of one condition say it."""

    what: str
    must: str
    value: Callable[[Answers], float]
    shown: str
    holds: Callable[[float], bool]


def _ratio(bundle: int) -> Callable[[Answers], float]:
    return lambda answers: answers[f"pace {bundle}"]["per_s"] / answers["stock"]["per_s"]


def _upload(answers: Answers) -> float:
    return float(answers["upload s3"]["per_s"] / answers["upload nowhere"]["per_s"])


def _over(kind: str, *, shared: bool) -> Callable[[Answers], float]:
    """Milliseconds above what the renders themselves take."""

    def value(answers: Answers) -> float:
        answer = answers[f"latency {kind}"]
        return float(answer["p95_ms"] - answer["own_ms"] - (answer["bulk_ms"] if shared else 0.0))

    return value


WISHES = (
    Wish(
        "one client submits, one a message",
        "5,000/s",
        lambda a: a["submit one a message"]["per_s"],
        "{:,.0f}/s",
        lambda v: v >= 5000,
    ),
    Wish(
        "one client submits, bundled",
        "25,000/s",
        lambda a: a["submit bundled"]["per_s"],
        "{:,.0f}/s",
        lambda v: v >= 25_000,
    ),
    Wish(
        "memory of the client",
        "1,024 bytes a job",
        lambda a: a["submit bundled"]["bytes_a_job"],
        "{:,.0f}",
        lambda v: v <= 1024,
    ),
    Wish("jobs lost of those drained", "0", lambda a: a["submit bundled"]["lost"], "{:.0f}", lambda v: v == 0),
    Wish("renders one a message, over bare Celery", "0.7", _ratio(1), "{:.2f}", lambda v: v >= 0.7),
    Wish("renders in bundles of 8, over bare Celery", "2.5", _ratio(8), "{:.2f}", lambda v: v >= 2.5),
    Wish("renders in bundles of 32, over bare Celery", "(aim) 4", _ratio(32), "{:.2f}", lambda v: v >= 4),
    Wish(
        "interactive P95 above its own and one bulk render, shared",
        "30 ms",
        _over("shared", shared=True),
        "{:.0f} ms",
        lambda v: v <= 30,
    ),
    Wish(
        "interactive P95 above its own render, dedicated",
        "15 ms",
        _over("dedicated", shared=False),
        "{:.0f} ms",
        lambda v: v <= 15,
    ),
    Wish(
        "recovery of a killed worker's render, the slowest",
        "3.0 s",
        lambda a: a["recovery"]["high"],
        "{:.2f} s",
        lambda v: v <= 3.0,
    ),
    Wish("renders with overlapped uploads, over those without storage", "0.8", _upload, "{:.2f}", lambda v: v >= 0.8),
)


def text(saved: Answers) -> str:
    """Everything, as Markdown."""
    machine = saved["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before; {saved['workers']} workers.",
        f"{saved['asked_at'][:10]}, the {saved['form']} form, {saved['took_s']:g} s.",
        "",
        _wishes(saved["conditions"]),
        "",
        _costs(saved["conditions"]),
        "",
    ]
    failed = [
        f"- {condition}: {name}: {answer['failed'].splitlines()[0]}"
        for condition, answers in saved["conditions"].items()
        for name, answer in answers.items()
        if "failed" in answer
    ]
    return "\n".join(lines + (["Not answered:", "", *failed, ""] if failed else []))


def _wishes(conditions: dict[str, Answers]) -> str:
    rows = []
    for wish in WISHES:
        cells = []
        for answers in conditions.values():
            try:
                value = wish.value(answers)
            except KeyError:
                cells.append("not asked")
            else:
                cells.append(wish.shown.format(value) + ("" if wish.holds(value) else " (**missed**)"))
        rows.append((wish.what, wish.must, *cells))
    return _table(("what", "must", *conditions), rows)


def _costs(conditions: dict[str, Answers]) -> str:
    rows = []
    for condition, answers in conditions.items():
        for name, answer in answers.items():
            if "redis_us" in answer:
                cells = (f"{answer['per_s']:,.0f}", f"{answer['redis_us']:.0f}", f"{answer['redis_commands']:.0f}")
                rows.append((condition, name, *cells, f"{0.5e6 / answer['redis_us']:,.0f}"))
    heads = (
        "Redis",
        "renders (stock: tasks)",
        "per s",
        "us of Redis each",
        "commands each",
        "per s at half of one Redis",
    )
    return _table(heads, rows)


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def publish(saved: Answers) -> None:
    """Write the tables of the page."""
    section.write(PAGE, text(saved))


def one_line(answer: Answers) -> str:
    """For the terminal."""
    if "failed" in answer:
        return f"failed: {answer['failed'][:500]}"
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in answer.items()
    )
