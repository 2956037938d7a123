"""`documented_overlay.py FOLDER`: writes the files of the overlay that docs/operations.md shows, so that it is checked as the others are."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"

#: A block of YAML that begins with the name of its file.
BLOCK = re.compile(r"```yaml\n# k8s/overlays/ours/(?P<name>\S+)\n(?P<text>.*?)```", re.DOTALL)


def main(folder: Path) -> int:
    """Returns 0, or 1 where the page shows no overlay."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    for block in found:
        (folder / block["name"]).write_text(block["text"].replace("sha256:...", "sha256:" + "0" * 64))
    if not any(block["name"] == "kustomization.yaml" for block in found):
        sys.stderr.write(f"{PAGE} shows no overlay any more\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
