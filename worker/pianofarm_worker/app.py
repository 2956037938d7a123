"""Entry of a worker process: `celery -A pianofarm_worker.app worker` finds `app` here."""

from __future__ import annotations

from pianofarm_common.settings import Settings
from pianofarm_worker.composition import compose

app = compose(Settings.load())
