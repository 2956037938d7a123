"""What every test may ask for: the shared reference material, and the rule that a missing service fails in CI."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def unavailable(reason: str) -> None:
    """Skip on a laptop, fail in CI: there everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of checkpoints, reference renders and MIDI files that the project may not ship."""
    folder = Path(os.environ.get("PIANOFARM_SHARED") or REPOSITORY.parent / "shared")
    if not folder.is_dir():
        unavailable(
            f"no reference material at {folder}: set PIANOFARM_SHARED to a folder with models/, parity/ and midi/"
        )
    return folder
