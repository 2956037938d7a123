"""The Celery app that Flower looks through: the farm's own queue options, and none of its code.

Flower's own defaults must not touch the broker: the shortest visibility timeout of all programs on it wins, and Flower's hour would
hand out again every message that a worker holds for longer.
"""

from pianofarm_common.queue import make_app
from pianofarm_common.settings import Settings

app = make_app(Settings.load())
