"""The `pianofarm` command: one module a command group. This one puts them together and turns errors into one line and an exit code.

0    done
1    some renders failed or were cancelled; the others are done
2    the request is wrong: file, option, model, setting
3    a service or the disk is not there; another try may help
130  interrupted with Ctrl-C
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import Annotated

import typer

from pianofarm.cli import (
    budget,
    control,
    cost,
    demo,
    doctor,
    farm,
    inspect,
    jobs,
    models,
    owners,
    play,
    quarantine,
    render,
    submit,
    top,
    train,
    upkeep,
    worker,
)
from pianofarm_common.errors import Permanent, PianofarmError

EXIT_SOME_FAILED, EXIT_USER, EXIT_SERVICE, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="pianofarm",
    help="Turns piano MIDI into audio with the DDSP-Piano neural synthesizer, here or on a farm of workers.",
    epilog="Exit codes: 0 done, 1 some renders failed, 2 wrong request, 3 service not there, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (render, inspect, play, farm, submit, jobs, worker, demo, doctor, top, cost, upkeep, control):
    module.register(app)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(budget.app, name="budget")
app.add_typer(owners.app, name="owners")


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"pianofarm {version('pianofarm')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every expected error is one line on standard error."""
    _collect_seldom()
    code = run(sys.argv[1:])
    if code == EXIT_INTERRUPTED:
        # A library that was interrupted while it was imported may crash when it is torn down.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    gc.freeze()  # the collection at the end of a process would look through everything once more
    sys.exit(code)


def _collect_seldom() -> None:
    """Have Python look for garbage every 100,000 objects, not every 700: the libraries of an engine make a million that stay.

    A render from a cold start takes 0.8 s less, of 3.4, together with the freeze at the end.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        code = app(args=arguments, prog_name="pianofarm", standalone_mode=False)
        sys.stdout.flush()
    except PianofarmError as error:
        return _complain(str(error), EXIT_USER if isinstance(error, Permanent) else EXIT_SERVICE)
    except TimeoutError as error:
        return _complain(str(error), EXIT_SERVICE)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except typer.Exit as leave:
        return leave.exit_code
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it closes standard output.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # The option parser's errors; their class is private to typer.
        explain = getattr(error, "format_message", None)
        if explain is None:
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "pianofarm"
        return _complain(f"{explain().rstrip('.')} (see '{command} --help')", EXIT_USER)
    if code == EXIT_INTERRUPTED:
        return _complain("interrupted", EXIT_INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print("pianofarm:", " ".join(message.split()), file=sys.stderr)
    return code
