"""Writes the autoscaler's queries as rules with a test: `check_queries.py OVERLAY FOLDER`, then `promtool test rules FOLDER/test.yml`.

What the autoscaler will divide by its threshold must be worker-seconds of work, and nothing at all where the exporter is gone.
"""

import sys
from pathlib import Path

import yaml

#: Class -> audio-seconds that wait, audio-seconds in hand; an average worker makes 20 a second.
WORK = {"interactive": (40.0, 60.0), "standard": (7200.0, 2400.0), "bulk": (360_000.0, 4000.0)}
SPEED = 20.0

#: What waits in it is no work: nobody may take it.
PAUSED = "standard"


def main(overlay, folder):
    scaled = [item for item in yaml.safe_load_all(overlay.read_text()) if item and item["kind"] == "ScaledObject"]
    if not scaled:
        return
    rules, samples = [], []
    for item in scaled:
        name = item["metadata"]["name"].removeprefix("worker-")
        rules.append({"record": f"work:{name}", "expr": item["spec"]["triggers"][0]["metadata"]["query"]})
        waiting, leased = WORK[name]
        expected = (leased if name == PAUSED else waiting + leased) / SPEED
        samples.append(
            {"expr": f"work:{name}", "eval_time": "2m", "exp_samples": [{"labels": f"work:{name}", "value": expected}]}
        )
        # Half an hour after the exporter's last word: no figure, not zero.
        samples.append({"expr": f"work:{name}", "eval_time": "35m", "exp_samples": []})
    series = [{"series": "pianofarm_worker_audio_seconds_per_second", "values": f"{SPEED}x5 _x60"}]
    for name, (waiting, leased) in WORK.items():
        # Two exporters for a moment, during a rollout: they say the same, and it counts once.
        for instance in "ab":
            labels = f'{{class="{name}",instance="{instance}"}}'
            series.append({"series": f"pianofarm_queue_audio_seconds{labels}", "values": f"{waiting}x5 _x60"})
            series.append({"series": f"pianofarm_queue_paused{labels}", "values": f"{int(name == PAUSED)}x5 _x60"})
            series.append({"series": f"pianofarm_leased_audio_seconds{labels}", "values": f"{leased}x5 _x60"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "work", "interval": "15s", "rules": rules}]}))
    test = {"interval": "1m", "input_series": series, "promql_expr_test": samples}
    (folder / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [test]})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
