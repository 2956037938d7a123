"""`python -m bench.load` asks everything under every condition and saves it; `--publish` writes docs/load.md, `--short` tries."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import machine
from bench.load import questions, report
from bench.load.questions import Answers, Form
from bench.load.servers import Condition, RedisServer, S3Server, redis_program

FULL = Form(
    name="full",
    n_submitted=100_000,
    n_drained={1: 5_000, 8: 12_000, 32: 24_000},
    n_stock=6_000,
    n_waiting=20_000,
    n_probes=100,
    n_kills=50,
    n_stored=200,
)
SHORT = Form(
    name="short",
    n_submitted=600,
    n_drained={1: 200, 8: 400},
    n_stock=200,
    n_waiting=200,
    n_probes=3,
    n_kills=2,
    n_stored=20,
)

#: In between, for a machine that others use as well.
MIDDLE = Form(
    name="middle",
    n_submitted=5_000,
    n_drained={1: 2_000, 8: 5_000, 32: 8_000},
    n_stock=3_000,
    n_waiting=5_000,
    n_probes=40,
    n_kills=10,
    n_stored=100,
)

PLAIN = Condition("in memory, plain", aof=False, tls=False)
SAFE = Condition("append-only file, TLS", aof=True, tls=True)

#: Milliseconds that an interactive and a bulk render take where latency is asked for, and a render where uploads are.
OWN_MS, BULK_MS, RENDER_MS = 10.0, 10.0, 20.0


def main() -> int:
    """Exit code 0: everything was asked; 1: something failed; 2: the request is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="a few hundred renders, one condition: does it work")
    size.add_argument("--middle", action="store_true", help="a few thousand renders: ratios on a busy machine")
    parser.add_argument("--only", action="append", help="questions that begin like this; repeatable")
    parser.add_argument("--condition", choices=("plain", "safe"), help="only this one; default: both, --short: plain")
    parser.add_argument("--out", type=Path, help=f"the file of the answers; default, with --publish: {report.RESULTS}")
    parser.add_argument("--publish", action="store_true", help=f"write the tables of {report.PAGE.name} from them")
    arguments = parser.parse_args()
    form = SHORT if arguments.short else MIDDLE if arguments.middle else FULL
    chosen = {"plain": [PLAIN], "safe": [SAFE]}.get(arguments.condition, [PLAIN] if arguments.short else [PLAIN, SAFE])
    began = time.monotonic()
    saved: Answers = {
        "form": form.name,
        "asked_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "workers": questions.N_WORKERS,
        "conditions": {},
    }
    failed = False
    with tempfile.TemporaryDirectory(prefix="pianofarm-load-") as folder:
        program, speaks_tls = redis_program(Path(folder))
        for condition in chosen:
            if condition.tls and not speaks_tls:
                print(
                    f"{condition.name}: no server with TLS is installed (Debian: apt-get install redis-server); without TLS"
                )
                condition = Condition("append-only file, plain", aof=True, tls=False)  # noqa: PLW2901
            answers = saved["conditions"][condition.name] = {}
            for name, answer in ask(
                form, Path(folder) / condition.name.replace(" ", "-"), program, condition, arguments.only
            ):
                answers[name] = answer
                failed = failed or "failed" in answer
                print(
                    f"{time.monotonic() - began:6.1f} s  {condition.name}: {name}: {report.one_line(answer)}",
                    flush=True,
                )
    saved["took_s"] = round(time.monotonic() - began, 1)
    out = arguments.out or (report.RESULTS if arguments.publish else Path(".state/load") / f"{form.name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(saved, indent=1) + "\n")
    if arguments.publish:
        report.publish(saved)
    print(f"\n{report.text(saved)}\n{out} written after {saved['took_s']:g} s")
    return int(failed)


def ask(
    form: Form, folder: Path, program: str, condition: Condition, only: list[str] | None
) -> Iterator[tuple[str, Answers]]:
    """The questions in turn, each with its answer; one that fails says so and stops no other."""
    redis = RedisServer(program, folder / "redis", condition)
    s3 = S3Server(folder / "s3")
    asked: dict[str, Callable[[Path], Answers]] = {
        "server": lambda _: {"version": redis.version()},
        "stock": lambda where: questions.stock(form, where, redis),
        **{
            f"pace {bundle}": lambda where, bundle=bundle: questions.pace(form, where, redis, bundle)
            for bundle in form.n_drained
        },
        "submit one a message": lambda where: questions.submission(form, where, redis, s3, 1, drain=False),
        "submit bundled": lambda where: questions.submission(form, where, redis, s3, 32, drain=True),
        **{
            f"latency {kind}": lambda where, kind=kind: questions.latency(
                form, where, redis, dedicated=kind == "dedicated", own_ms=OWN_MS, bulk_ms=BULK_MS
            )
            for kind in ("shared", "dedicated")
        },
        "recovery": lambda where: questions.recovery(form, where, redis),
        **{
            f"upload {store}": lambda where, store=store: questions.uploads(form, where, redis, s3, store, RENDER_MS)
            for store in ("nowhere", "s3", "s3 at once")
        },
    }
    try:
        for number, (name, question) in enumerate(asked.items()):
            if only is None or any(name.startswith(start) for start in only):
                try:
                    yield name, question(folder / str(number))
                except Exception as error:  # what was asked before is worth keeping
                    yield name, {"failed": f"{type(error).__name__}: {error}"}
    finally:
        redis.process.kill()
        s3.process.kill()


if __name__ == "__main__":
    sys.exit(main())
