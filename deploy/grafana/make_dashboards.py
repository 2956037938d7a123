"""Writes the Grafana dashboards in `dashboards/`: `python deploy/grafana/make_dashboards.py`.

The JSON is committed; a test holds the two together.

A dashboard is rows of panels; a panel is a title, a unit, what it means, and its queries with their legends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DATASOURCE = {"type": "prometheus", "uid": "pianofarm-prometheus"}
FOLDER = Path(__file__).parent / "dashboards"

#: Grafana's grid is this wide.
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """One picture. Units are Grafana's: s, bytes, percentunit, short, ..."""

    title: str
    unit: str
    about: str
    queries: tuple[tuple[str, str], ...]  #: PromQL and the legend of its series
    kind: str = "timeseries"  #: or "stat"
    stack: bool = False


def quantiles(metric: str, by: str = "class", where: str = "") -> tuple[tuple[str, str], ...]:
    """The median and the 95th percentile of a histogram."""
    rate = f"sum by (le, {by}) (rate({metric}_bucket{where}[$__rate_interval]))"
    return tuple((f"histogram_quantile({share}, {rate})", f"P{share * 100:g} {{{{{by}}}}}") for share in (0.5, 0.95))


def rate_of(counter: str) -> str:
    """A counter's increase a second."""
    return f"rate(pianofarm_{counter}_total[$__rate_interval])"


def rate_by_device(what: str) -> str:
    """Worker time a second, by device."""
    return f"sum by (device) ({rate_of(f'worker_{what}')})"


FARM = (
    (
        Panel("Waiting", "short", "Renders in all queues.", (("sum(pianofarm_queue_renders)", "waiting"),), "stat"),
        Panel(
            "In hand", "short", "Renders that workers hold.", (("sum(pianofarm_leased_renders)", "in hand"),), "stat"
        ),
        Panel("Workers", "short", "Workers that are alive.", (("sum(pianofarm_workers)", "workers"),), "stat"),
        Panel(
            "Worked off in",
            "s",
            "Waiting and leased audio over what the living workers make; no figure without workers.",
            (("pianofarm:drain_seconds", "worked off in"),),
            "stat",
        ),
        Panel(
            "Speed",
            "short",
            "Seconds of audio that the farm makes in a second, over five minutes.",
            (("pianofarm:audio_seconds:rate5m", "audio s / s"),),
            "stat",
        ),
        Panel(
            "Quarantined",
            "short",
            "Renders that killed their workers, and messages nobody could read. Both should be 0.",
            (("pianofarm_quarantined_renders", "quarantined"), ("pianofarm_parked_messages", "parked")),
            "stat",
        ),
    ),
    (
        Panel(
            "Audio waiting",
            "s",
            "What the autoscaler sees: audio in the queues, by class.",
            (("sum by (class) (pianofarm_queue_audio_seconds)", "{{class}}"),),
            stack=True,
        ),
        Panel(
            "Oldest render",
            "s",
            "Time since the submission of the render that waits longest. Interactive above 30 s is an alert.",
            (("pianofarm_queue_oldest_seconds", "{{class}}"),),
        ),
        Panel(
            "Workers",
            "short",
            "Alive by device and state, and how many would work everything off within a minute.",
            (
                ("sum by (device, state) (pianofarm_workers) > 0", "{{device}} {{state}}"),
                (
                    "ceil(pianofarm:work_audio_seconds / scalar(pianofarm_worker_audio_seconds_per_second) / 60)",
                    "wanted for 60 s",
                ),
            ),
        ),
    ),
    (
        Panel(
            "Queue wait", "s", "From submission to the claim that succeeded.", quantiles("pianofarm_queue_wait_seconds")
        ),
        Panel("Render", "s", "To synthesize and check one render.", quantiles("pianofarm_render_seconds")),
        Panel("Upload", "s", "To store audio and sidecar.", quantiles("pianofarm_upload_seconds")),
        Panel(
            "Job, from end to end",
            "s",
            "From submission to the end, cache hits included.",
            quantiles("pianofarm_job_latency_seconds"),
        ),
    ),
    (
        Panel(
            "Jobs ended",
            "reqps",
            "Jobs a second by outcome.",
            (("sum by (outcome) (rate(pianofarm_jobs_total[$__rate_interval]))", "{{outcome}}"),),
            stack=True,
        ),
        Panel(
            "Cache hits",
            "percentunit",
            "Part of the jobs whose render was finished already.",
            (
                (
                    f"sum({rate_of('cache_hits')}) / (sum({rate_of('jobs')}) > 0)",
                    "cache hits",
                ),
            ),
        ),
        Panel(
            "Retries and failures",
            "short",
            "Renders that went back to the queue, and renders given up, by error. WorkerDied: a lease lapsed.",
            (
                ("sum by (error) (increase(pianofarm_retries_total[$__rate_interval]))", "retry {{error}}"),
                ("sum by (error) (increase(pianofarm_failures_total[$__rate_interval]))", "failed {{error}}"),
                ("sum(increase(pianofarm_releases_total[$__rate_interval]))", "handed back"),
            ),
        ),
        Panel(
            "Errors",
            "percentunit",
            "Part of the jobs of the last 15 minutes that failed or were quarantined.",
            (("pianofarm:job_errors:ratio15m", "errors"),),
        ),
    ),
    (
        Panel(
            "Redis memory",
            "bytes",
            "Used, and the limit where there is one.",
            (("pianofarm_redis_used_bytes", "used"), ("pianofarm_redis_max_bytes > 0", "limit")),
        ),
        Panel(
            "Messages in the broker",
            "short",
            "One may hold several renders. Many renders and no messages: is the sweeper running?",
            (("pianofarm_broker_messages", "{{class}}"), ("pianofarm_backoff_renders", "waiting for another try")),
        ),
        Panel(
            "Exporter",
            "short",
            "1: the ledger answered the last scrape; and times it did not.",
            (
                ("pianofarm_ledger_up", "ledger up"),
                ("increase(pianofarm_exporter_errors_total[$__rate_interval])", "not read"),
            ),
        ),
    ),
)

WORKERS = (
    (
        Panel(
            "Speed by device",
            "short",
            "Seconds of audio a worker makes in a second of rendering and uploading, over its kind's last 200 renders.",
            (
                ("pianofarm_device_audio_seconds_per_second", "{{device}}"),
                ("pianofarm_worker_audio_seconds_per_second", "average worker"),
            ),
        ),
        Panel(
            "Real-time factor",
            "short",
            "Of single renders: median, and the slowest twentieth.",
            tuple(
                (
                    f"histogram_quantile({share}, sum by (le, device) (rate(pianofarm_real_time_factor_bucket[$__rate_interval])))",
                    f"P{share * 100:g} {{{{device}}}}",
                )
                for share in (0.5, 0.05)
            ),
        ),
        Panel(
            "Audio by model",
            "short",
            "Seconds of audio a second.",
            (("sum by (model) (rate(pianofarm_audio_seconds_total[$__rate_interval]))", "{{model}}"),),
            stack=True,
        ),
    ),
    (
        Panel(
            "Busy",
            "percentunit",
            "Part of the workers' time that went into finished renders.",
            (
                (
                    f"{rate_by_device('busy_seconds')} / ({rate_by_device('seconds')} > 0)",
                    "{{device}}",
                ),
            ),
        ),
        Panel(
            "Device utilisation",
            "percentunit",
            "Of the GPU as its driver says; of a CPU worker its share of its cores.",
            (("pianofarm_worker_device_utilization_ratio", "{{instance}}"),),
        ),
        Panel(
            "Device memory",
            "bytes",
            "Used on the GPU; of a CPU worker that of its process.",
            (('pianofarm_worker_device_memory_bytes{kind="used"}', "{{instance}}"),),
        ),
    ),
    (
        Panel(
            "Attempts",
            "reqps",
            "Attempts that ended, by error.",
            (
                ('sum(rate(pianofarm_worker_attempts_total{error=""}[$__rate_interval]))', "good"),
                ('sum by (error) (rate(pianofarm_worker_attempts_total{error!=""}[$__rate_interval]))', "{{error}}"),
            ),
            stack=True,
        ),
        Panel(
            "Refused claims",
            "reqps",
            "Messages whose render was not to be had: duplicates (held, finished) and late cancellations.",
            (("sum by (reason) (rate(pianofarm_worker_refused_claims_total[$__rate_interval]))", "{{reason}}"),),
            stack=True,
        ),
        Panel(
            "Lost leases",
            "short",
            "Renders taken away from living workers. Should be 0.",
            (("sum by (instance) (increase(pianofarm_worker_lease_losses_total[$__rate_interval]))", "{{instance}}"),),
        ),
        Panel(
            "Since the last sign of work",
            "s",
            "Time since each worker last claimed or finished something.",
            (("time() - pianofarm_worker_last_progress_timestamp_seconds", "{{instance}}"),),
        ),
    ),
)

COST = (
    (
        Panel(
            "An hour of audio",
            "currencyUSD",
            "Worker time at PIANOFARM_WORKER_PRICE_PER_H over the audio made, last hour. Idle workers cost as well.",
            (("pianofarm:cost_per_audio_hour:1h", "an hour of audio"),),
            "stat",
        ),
        Panel(
            "A day like the last hour",
            "currencyUSD",
            "What the workers would cost if they ran on like this for 24 hours.",
            (("24 * 3600 * sum(rate(pianofarm_cost_total[1h]))", "a day"),),
            "stat",
        ),
        Panel(
            "Audio today",
            "s",
            "Audio made within 24 hours.",
            (("sum(increase(pianofarm_audio_seconds_total[24h]))", "audio"),),
            "stat",
        ),
    ),
    (
        Panel(
            "Cost",
            "currencyUSD",
            "A hour, by device.",
            (("3600 * sum by (device) (rate(pianofarm_cost_total[$__rate_interval]))", "{{device}}"),),
            stack=True,
        ),
        Panel(
            "Worker hours an hour",
            "short",
            "Alive and busy: the gap is what idling costs.",
            (
                ("sum(rate(pianofarm_worker_seconds_total[$__rate_interval]))", "alive"),
                ("sum(rate(pianofarm_worker_busy_seconds_total[$__rate_interval]))", "busy"),
            ),
        ),
        Panel(
            "Busy",
            "percentunit",
            "Part of the paid time that went into finished renders, five minutes.",
            (("pianofarm:busy:ratio5m", "busy"),),
        ),
    ),
)

DASHBOARDS = {
    "farm": ("Piano farm", FARM),
    "workers": ("Piano farm: workers", WORKERS),
    "cost": ("Piano farm: cost", COST),
}


def panel_json(panel: Panel, number: int, x: int, y: int, width: int, height: int) -> dict[str, object]:
    """A panel as Grafana keeps it."""
    targets = [
        {"datasource": DATASOURCE, "expr": query, "legendFormat": legend, "refId": chr(ord("A") + index), "range": True}
        for index, (query, legend) in enumerate(panel.queries)
    ]
    custom: dict[str, object] = {"fillOpacity": 25 if panel.stack else 0, "showPoints": "never", "lineWidth": 1}
    if panel.stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom if panel.kind == "timeseries" else {}},
            "overrides": [],
        },
        "options": (
            {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list", "placement": "bottom"}}
            if panel.kind == "timeseries"
            else {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
        ),
    }


def dashboard_json(uid: str, title: str, rows: tuple[tuple[Panel, ...], ...]) -> dict[str, object]:
    """A dashboard: each row as high as its kind needs, its panels of equal width."""
    panels, y = [], 0
    for row in rows:
        height, width = (4 if row[0].kind == "stat" else 8), WIDTH // len(row)
        for column, panel in enumerate(row):
            panels.append(panel_json(panel, len(panels) + 1, column * width, y, width, height))
        y += height
    return {
        "uid": f"pianofarm-{uid}",
        "title": title,
        "tags": ["pianofarm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["pianofarm"], "title": "more", "asDropdown": False, "keepTime": True}
        ],
        "panels": panels,
    }


def texts() -> dict[Path, str]:
    """What every file should hold."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard_json(name, title, rows), indent=1) + "\n"
        for name, (title, rows) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text)
        print(path)
