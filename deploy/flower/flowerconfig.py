"""Flower's options. User and password come from FLOWER_BASIC_AUTH ("user:password"), never from here.

`/metrics` and `/healthcheck` ask for no password: keep the port on loopback, or behind a proxy that does.
"""

import os
from pathlib import Path

# As a file, where secrets are files (containers), so that no list of environments shows it.
_password_file = os.environ.get("FLOWER_BASIC_AUTH_FILE")
if _password_file:
    basic_auth = [Path(_password_file).read_text(encoding="utf-8").strip()]

port = 5555
# Kept in memory: a view, forgotten with the process. The ledger is the truth.
persistent = False
max_tasks = 20_000
max_workers = 2_000
purge_offline_workers = 600
# Tasks are named by the keys of their renders; nothing secret is in them.
tasks_columns = "name,uuid,state,args,received,started,runtime,worker"
natural_time = False
enable_events = True
# A view: workers are stopped and scaled by what runs them, renders are cancelled with `pianofarm cancel`.
read_only = True
inspect_timeout = 3000.0
