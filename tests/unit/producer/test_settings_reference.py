"""The settings class, its documentation and the example environment are the same set."""

import re
from pathlib import Path

from pydantic import SecretStr

from pianofarm_common.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
VARIABLES = {f"PIANOFARM_{name.upper()}" for name in Settings.model_fields}


def test_docs_settings_lists_every_setting_and_no_other():
    text = (REPOSITORY / "docs" / "settings.md").read_text()
    assert set(re.findall(r"^\| `(PIANOFARM_[A-Z0-9_]+)` \|", text, re.MULTILINE)) == VARIABLES


def test_env_example_lists_every_setting_once_with_its_default():
    text = (REPOSITORY / "deploy" / "env.example").read_text()
    listed = re.findall(r"^#(PIANOFARM_[A-Z0-9_]+)=(.*)$", text, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(VARIABLES)
    for name, value in listed:
        field = Settings.model_fields[name.removeprefix("PIANOFARM_").lower()]
        if field.default_factory is not None:  # the state folder: depends on who asks
            continue
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        assert value == (str(default).lower() if isinstance(default, bool) else str(default)), name


def test_every_setting_says_what_it_is():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
