"""docs/logs.md is the schema of the log: every event that the code can write, with its fields, and no other."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def written() -> dict[str, set[str]]:
    """Events in the code, and the fields they are written with."""
    found: dict[str, set[str]] = {}
    for package in ("common/pianofarm_common", "producer/pianofarm", "worker/pianofarm_worker"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in LEVELS
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "log"
                ):
                    assert isinstance(node.args[0], ast.Constant), f"{path}: an event is a constant, values are fields"
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                    found.setdefault(node.args[0].value, set()).update(fields - {"render", "exc_info"})
    return found


def documented() -> dict[str, set[str]]:
    text = (REPOSITORY / "docs" / "logs.md").read_text().partition("## Traces")[0]
    rows = re.findall(r"^\| `([^`]+)` \| \w+ \| ([^|]*)\|", text, re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def test_docs_logs_lists_every_event_with_its_fields_and_no_other():
    assert documented() == written()
