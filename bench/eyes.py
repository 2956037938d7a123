"""`python -m bench.eyes`: a real farm with its real exporter and Prometheus, and pictures of the dashboards made from it."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.simulate.real_farm import midi_piece, running_farm
from pianofarm.client import Farm
from pianofarm_common.settings import Settings
from pianofarm_worker import exporter

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"

#: Ports of the exporter, the workers' metrics and Prometheus during the run.
EXPORTER_PORT, WORKER_PORT, PROMETHEUS_PORT = 19464, 19465, 19090


def configuration(n_workers: int) -> str:
    """The shipped rules, and the targets of this run."""
    targets = ", ".join(f"'127.0.0.1:{WORKER_PORT + number}'" for number in range(n_workers))
    return f"""global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}}
rule_files: ['{DEPLOY}/prometheus/rules/*.yml']
scrape_configs:
  - job_name: pianofarm-exporter
    static_configs: [{{targets: ['127.0.0.1:{EXPORTER_PORT}']}}]
  - job_name: pianofarm-worker
    static_configs: [{{targets: [{targets}]}}]
"""


def main() -> int:
    """Run the farm, draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.eyes", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--pace", type=float, help="audio seconds a second of a paced piano; default: the model of the package"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    if shutil.which("prometheus") is None:
        sys.stderr.write("prometheus is missing: apt-get install prometheus\n")
        return 2
    os.environ["PIANOFARM_WORKER_METRICS_PORT"] = str(WORKER_PORT)
    os.environ["PIANOFARM_WORKER_PRICE_PER_H"] = "0.05"
    os.environ["PIANOFARM_EXPORTER_PORT"] = str(EXPORTER_PORT)
    with running_farm(arguments.workers, pace=arguments.pace) as client, tempfile.TemporaryDirectory() as folder:
        ending = threading.Event()
        export = threading.Thread(target=exporter.run, args=(Settings.load(client.settings.state_dir), ending))
        export.start()
        (Path(folder) / "prometheus.yml").write_text(configuration(arguments.workers))
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
                "--log.level=error",
            ]
        )
        try:
            load(client, arguments.minutes)
            address = f"http://127.0.0.1:{PROMETHEUS_PORT}"
            command = [sys.executable, str(DEPLOY / "grafana" / "picture.py"), "--prometheus", address]
            subprocess.run([*command, "--minutes", str(arguments.minutes), "--out", str(arguments.out)], check=True)
        finally:
            prometheus.terminate()
            prometheus.wait()
            ending.set()
            export.join()
    return 0


def load(client: Farm, minutes: float) -> None:
    """Somebody plays all the time; a batch comes twice, and half of the second is known from the first."""
    chance, began, number, batches = random.Random(1), time.monotonic(), 0, [0.1, 0.5]
    while (passed := (time.monotonic() - began) / (60 * minutes)) < 1.0:
        number += 1
        client.submit(midi_piece(chance.uniform(3, 12), number % 60), priority="interactive", name=f"take {number}")
        if batches and passed > batches[0]:
            batches.pop(0)
            client.submit_many(
                [midi_piece(5.0 + index, index + (1000 if batches or index % 2 else 2000)) for index in range(40)],
                priority="bulk",
                owner="archive",
            )
        time.sleep(chance.expovariate(1 / 3.0))


if __name__ == "__main__":
    sys.exit(main())
