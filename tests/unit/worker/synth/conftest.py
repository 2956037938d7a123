"""What the synthesizer tests share: the ddsp library's core, without the parts of it that need packages we do not have."""

import importlib.util
import os
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def ddsp_core() -> ModuleType:
    """`ddsp.core`, the oracle. Importing `ddsp` itself would pull in its pitch trackers and audio loaders."""
    package = importlib.util.find_spec("ddsp")
    if package is None or not package.submodule_search_locations:
        reason = "ddsp is not installed: the dependency group 'oracle' brings it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    path = os.path.join(package.submodule_search_locations[0], "core.py")
    spec = importlib.util.spec_from_file_location("ddsp_core_oracle", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
