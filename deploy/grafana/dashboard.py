#!/usr/bin/env python3
"""Writes the Grafana dashboard, deploy/grafana/dashboards/runqy-worker.json, to standard output.

usage: deploy/grafana/dashboard.py >deploy/grafana/dashboards/runqy-worker.json      (make generate does so)

The JSON of its more than forty panels is thousands of lines long, most of them the same in each panel. This file has
what differs: what a panel shows, its query, its unit, the alerts on the same metric, and their limit as a line.
"""

import json
import sys

from panels import METRICS, RUNBOOK, SOURCE, Board, outside_link, promql, quantile, steps, value_names, variable


def now(board):
    board.row("Now")
    board.stat(
        "Unhealthy workers",
        "Workers that Prometheus can scrape and that report that they are unhealthy: they take no tasks.",
        "count(runqy_worker_healthy{<WORKER>}) - sum(runqy_worker_healthy{<WORKER>})",
        "short",
        steps("green", (1, "orange")),
        "RunqyWorkerUnhealthy",
    )
    board.stat(
        "Targets down",
        "Targets of the chosen jobs that Prometheus cannot scrape.",
        "count(up{<WORKER>}) - sum(up{<WORKER>})",
        "short",
        steps("green", (1, "red")),
        "RunqyWorkerDown",
    )
    board.stat(
        "Firing alerts",
        "Alerts of metrics/rules, whatever is chosen above. The graphs below show them as marks.",
        'count(ALERTS{alertname=~"Runqy.+", alertstate="firing"}) or vector(0)',
        "short",
        steps("green", (1, "red")),
    )
    board.stat(
        "Pending tasks",
        "Tasks that wait in the chosen queues.",
        "sum(max by (job, queue) (runqy_queue_pending_tasks{<QUEUE>}))",
        "short",
        steps("green", (1000, "orange")),
        "RunqyQueueBacklog",
    )
    board.stat(
        "Oldest pending task",
        "Age of the task that has waited longest in any of the chosen queues.",
        "max(runqy_queue_latency_seconds{<QUEUE>})",
        "s",
        steps("green", (60, "yellow"), (300, "orange")),
        "RunqyQueueLatencyHigh",
    )
    board.stat(
        "Failed attempts",
        "Share of the attempts that failed. They are retried until the limit.",
        "sum(rate(runqy_tasks_failed_total{<BOTH>}[<RANGE>]))"
        " / (sum(rate(runqy_tasks_processed_total{<BOTH>}[<RANGE>])) > 0)",
        "percentunit",
        steps("green", (0.01, "yellow"), (0.1, "orange")),
        "RunqyTaskFailures",
        noValue="no tasks",
        min=0,
        max=1,
    )


def workers(board):
    board.row("Workers")
    health = board.panel(
        "state-timeline",
        "Health",
        "Each worker over time. Down: Prometheus cannot scrape it.",
        [("runqy_worker_healthy{<WORKER>} or (up{<WORKER>} == 0) - 1", "{{instance}}")],
        "short",
        (12, 9),
        "RunqyWorkerUnhealthy RunqyWorkerDown RunqyAllWorkersDown",
        thresholds=steps("green"),
        color={"mode": "thresholds"},
        custom={"fillOpacity": 80, "lineWidth": 0},
        mappings=value_names(("1", "healthy", "green"), ("0", "unhealthy", "orange"), ("-1", "down", "red")),
    )
    health["options"] = {
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    table = board.panel(
        "table",
        "Running workers",
        "The workers that Prometheus scrapes now.",
        [
            ("max by (instance, worker_id, version, environment, python_version) (runqy_worker_info{<WORKER>})", ""),
            ("max by (instance) (runqy_worker_healthy{<WORKER>})", ""),
            ("max by (instance) (runqy_worker_active_tasks{<WORKER>})", ""),
            ("max by (instance) (runqy_worker_concurrency{<WORKER>})", ""),
            ("max by (instance) (time() - runqy_worker_start_time_seconds{<WORKER>})", ""),
        ],
        "short",
        (12, 9),
        table=True,
        thresholds=steps("green"),
        color={"mode": "thresholds"},
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
    )
    table["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": "healthy"},
            "properties": [
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
                {"id": "mappings", "value": value_names(("1", "yes", "green"), ("0", "no", "orange"))},
            ],
        },
        {"matcher": {"id": "byName", "options": "up for"}, "properties": [{"id": "unit", "value": "s"}]},
    ]
    table["options"] = {
        "cellHeight": "sm",
        "footer": {"show": False},
        "showHeader": True,
        "sortBy": [{"desc": False, "displayName": "healthy"}],
    }
    columns = [
        ("worker_id", "worker"),
        ("instance", "instance"),
        ("Value #B", "healthy"),
        ("Value #C", "tasks"),
        ("Value #D", "of"),
        ("Value #E", "up for"),
        ("version", "version"),
        ("python_version", "Python"),
        ("environment", "environment"),
    ]
    table["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "Value #A": True},
                "indexByName": {name: i for i, (name, _) in enumerate(columns)},
                "renameByName": {name: title for name, title in columns if name != title},
            },
        },
    ]
    board.graph(
        "Share of slots in use",
        "Tasks in flight in the Python process, as a share of the worker's concurrency.",
        [("runqy_worker_active_tasks{<WORKER>} / runqy_worker_concurrency{<WORKER>}", "{{instance}}")],
        "percentunit",
        alerts="RunqyQueueBacklog",
        max=1,
    )
    board.graph(
        "Event loop lag",
        "How late the event loop of the Python process runs, or its answer to a ping is.",
        [("runqy_worker_event_loop_lag_seconds{<WORKER>}", "{{instance}}")],
        "s",
        alerts="RunqyEventLoopBlocked",
        limit=5,
    )
    board.graph(
        "Age of the last heartbeat",
        "At the time of the scrape.",
        [
            (
                "timestamp(runqy_worker_last_heartbeat_timestamp_seconds{<WORKER>})\n"
                "- runqy_worker_last_heartbeat_timestamp_seconds{<WORKER>}",
                "{{instance}}",
            )
        ],
        "s",
        alerts="RunqyHeartbeatStale",
        limit=30,
    )
    board.graph(
        "Crashes, by cause",
        "Exits of the Python process that the worker did not cause.",
        [("sum by (cause) (increase(runqy_worker_crashes_total{<WORKER>}[<RANGE>]))", "{{cause}}")],
        "short",
        12,
        "RunqyWorkerCrashLooping",
        stacked=True,
        bars=True,
    )
    board.graph(
        "Restarts, by cause",
        "Starts of the Python process after the first one.",
        [("sum by (cause) (increase(runqy_worker_restarts_total{<WORKER>}[<RANGE>]))", "{{cause}}")],
        "short",
        12,
        "RunqyWorkerCrashLooping",
        stacked=True,
        bars=True,
    )

    board.graph(
        "Idle tasks",
        "Running tasks that use no CPU and report no progress: they hang, or wait for something else.",
        [("runqy_worker_idle_tasks{<WORKER>}", "{{instance}}")],
        "short",
        alerts="RunqyNoProgress",
    )
    board.graph(
        "Replacements for memory",
        "Python processes replaced for exceeding python.max_memory, and 1 while that is suspended.",
        [
            (
                'sum by (instance) (increase(runqy_worker_restarts_total{<WORKER>, cause="max_memory"}[10m]))',
                "{{instance}} in 10 minutes",
            ),
            ("max by (instance) (runqy_worker_recycling_suspended{<WORKER>})", "{{instance}} suspended"),
        ],
        "short",
        alerts="RunqyWorkerRecycling",
        limit=3,
    )
    board.graph(
        "Log lines dropped",
        "Lines of the worker's log that nobody read in time.",
        [("sum by (instance) (increase(runqy_log_lines_dropped_total{<WORKER>}[<RANGE>]))", "{{instance}}")],
        "short",
        stacked=True,
        bars=True,
    )


def queues(board):
    def by_state(state):
        return f'max by (job, queue) (runqy_queue_tasks{{<QUEUE>, state="{state}"}})'

    board.row("Queues")
    board.graph(
        "Pending",
        "Tasks that wait. Every worker reports the same number, so this is the maximum over them.",
        [("max by (job, queue) (runqy_queue_pending_tasks{<QUEUE>})", "{{queue}}")],
        "short",
        alerts="RunqyQueueBacklog RunqyNoProgress",
        limit=1000,
    )
    board.graph(
        "Age of the oldest pending task",
        "How long the task that has waited longest has waited.",
        [("max by (job, queue) (runqy_queue_latency_seconds{<QUEUE>})", "{{queue}}")],
        "s",
        alerts="RunqyQueueLatencyHigh",
        limit=300,
    )
    board.graph(
        "Active", "Tasks in flight on a worker.", [(by_state("active"), "{{queue}}")], "short", alerts="RunqyNoProgress"
    )
    board.graph(
        "Retry and scheduled",
        "Failed tasks that will be retried, and tasks that were enqueued for later.",
        [(by_state("retry"), "{{queue}} retry"), (by_state("scheduled"), "{{queue}} scheduled")],
        "short",
        alerts="RunqyTaskFailures",
    )
    board.graph(
        "Archived",
        "Tasks that have failed for good: out of retries, or not to be retried.",
        [(by_state("archived"), "{{queue}}")],
        "short",
        alerts="RunqyTaskFailures",
    )
    board.graph(
        "Paused",
        "1 while the queue is paused: no worker takes tasks from it.",
        [("max by (job, queue) (runqy_queue_paused{<QUEUE>})", "{{queue}}")],
        "short",
        alerts="RunqyQueueLatencyHigh",
        max=1,
    )
    board.graph(
        "Tasks that nobody takes",
        "Tasks of queues that no healthy worker serves, and tasks that wait to be aggregated, as the leader sees it.",
        [("max by (job, queue) (runqy_queue_unserved_tasks{<QUEUE>})", "{{queue}}")],
        "short",
        24,
        "RunqyQueueUnserved",
        stacked=True,
    )


def tasks(board):
    board.row("Tasks")
    board.graph(
        "Throughput",
        "Attempts that ended, with success or failure, per second.",
        [("sum by (job, queue) (rate(runqy_tasks_processed_total{<BOTH>}[<RANGE>]))", "{{queue}}")],
        "suffix:/s",
        12,
        "RunqyNoProgress",
        stacked=True,
    )
    board.graph(
        "Share of failed attempts",
        "They are retried until the limit.",
        [
            (
                "sum by (job, queue) (rate(runqy_tasks_failed_total{<BOTH>}[<RANGE>]))\n/\n"
                "sum by (job, queue) (rate(runqy_tasks_processed_total{<BOTH>}[<RANGE>]))",
                "{{queue}}",
            )
        ],
        "percentunit",
        12,
        "RunqyTaskFailures",
        limit=0.1,
        max=1,
    )
    explained = "From the begin of the handler to its answer."
    board.graph("Duration, p50", explained, [(quantile(0.5), "{{queue}}")], "s", 12, "RunqyTasksSlow")
    p95 = board.graph("Duration, p95", explained, [(quantile(0.95), "{{queue}}")], "s", 12, "RunqyTasksSlow", limit=60)
    p95["targets"][0]["exemplar"] = True  # they carry the task's id
    board.graph(
        "Wait, p95",
        "From when a task was enqueued, or was due, to the begin of its handler.",
        [(quantile(0.95, "runqy_task_wait_seconds"), "{{queue}}")],
        "s",
        12,
        "RunqyTaskWaitHigh",
        limit=60,
    )
    board.graph(
        "Lost tasks",
        "Ids that were found in a queue without their task, which Redis has lost.",
        [("sum by (queue) (increase(runqy_tasks_lost_total{<BOTH>}[<RANGE>]))", "{{queue}}")],
        "short",
        12,
        "RunqyTasksLost",
        stacked=True,
        bars=True,
    )
    board.graph(
        "Retried and archived",
        "Attempts after which the task waits for another one, and tasks that were given up.",
        [
            ("sum by (job, queue) (rate(runqy_tasks_retried_total{<BOTH>}[<RANGE>]))", "{{queue}} retried"),
            ("sum by (job, queue) (rate(runqy_tasks_archived_total{<BOTH>}[<RANGE>]))", "{{queue}} archived"),
        ],
        "suffix:/s",
        12,
        "RunqyTaskFailures",
    )
    board.graph(
        "Archive, as a part of its limit",
        "asynq keeps 10,000 archived tasks of a queue; above that the oldest are dropped.",
        [("max by (job, queue) (runqy_queue_archive_limit_ratio{<QUEUE>})", "{{queue}}")],
        "percentunit",
        12,
        "RunqyTaskFailures",
        max=1,
    )


def python_processes(board):
    board.row("Python processes")
    board.graph(
        "CPU",
        "CPU seconds per second that the Python process uses.",
        [("rate(runqy_child_process_cpu_seconds_total{<WORKER>}[<RANGE>])", "{{instance}}")],
        "short",
        alerts="RunqyTasksSlow",
    )
    board.graph(
        "Memory",
        "Memory that the Python process holds.",
        [("runqy_child_process_resident_memory_bytes{<WORKER>}", "{{instance}}")],
        "bytes",
        alerts="RunqyWorkerCrashLooping",
    )
    board.graph(
        "Open files",
        "File descriptors that the Python process has open.",
        [("runqy_child_process_open_fds{<WORKER>}", "{{instance}}")],
        "short",
    )
    board.graph(
        "Garbage collections",
        "Runs of Python's garbage collector per second, by generation.",
        [
            (
                "sum by (instance, generation) (rate(python_gc_collections_total{<WORKER>}[<RANGE>]))",
                "{{instance}} generation {{generation}}",
            )
        ],
        "suffix:/s",
    )
    board.graph(
        "Objects collected",
        "Objects that the garbage collector freed, per second.",
        [("sum by (instance) (rate(python_gc_objects_collected_total{<WORKER>}[<RANGE>]))", "{{instance}}")],
        "suffix:/s",
    )
    board.graph(
        "Objects that cannot be collected",
        "Since the process started; what grows here is a leak.",
        [("sum by (instance) (python_gc_objects_uncollectable_total{<WORKER>})", "{{instance}}")],
        "short",
    )


def fleet(board):
    board.row("Fleet")
    board.graph(
        "Workers by state",
        "As the fleet's leader classifies them.",
        [("max by (job, state) (runqy_fleet_workers{<JOB>})", "{{state}}")],
        "short",
        alerts="RunqyWorkerDown RunqyFleetUnchecked",
        stacked=True,
    )
    board.graph(
        "Leaders",
        "Processes that check the fleet: 1 when all is well; with 0 the fleet is unchecked.",
        [("sum(runqy_fleet_checker{<JOB>})", "leaders")],
        "short",
        alerts="RunqyFleetUnchecked",
        max=2,
    )
    board.graph(
        "Dead workers, by reason",
        "Each death counts once, in the process that recorded it, by how it showed.",
        [("sum by (reason) (increase(runqy_fleet_dead_total{<JOB>}[<RANGE>]))", "{{reason}}")],
        "short",
        alerts="RunqyWorkerDied",
        stacked=True,
        bars=True,
    )
    board.graph(
        "Tasks recovered",
        "Tasks recovered from dead workers, by queue and by how the death was detected.",
        [("sum by (queue, reason) (increase(runqy_tasks_recovered_total{<QUEUE>}[<RANGE>]))", "{{queue}} {{reason}}")],
        "short",
        12,
        "RunqyWorkerDown",
        stacked=True,
        bars=True,
    )
    board.graph(
        "Late acknowledgements refused",
        "Acknowledgements that came too late: the task had gone to another attempt.",
        [("sum by (queue) (increase(runqy_tasks_fenced_total{<BOTH>}[<RANGE>]))", "{{queue}}")],
        "short",
        12,
        "RunqyWorkerDown",
        stacked=True,
        bars=True,
    )


def main():
    board = Board()
    for rows in (now, workers, queues, tasks, python_processes, fleet):
        rows(board)
    json.dump(
        {
            "uid": "runqy-worker",
            "title": "runqy-worker",
            "tags": ["runqy", "asynq", "python"],
            "description": "Workers, queues, tasks, Python processes and the fleet of runqy-worker.",
            "id": None,
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "refresh": "30s",
            "links": [
                outside_link("Runbook", "What each alert means and what to do", RUNBOOK),
                outside_link("Metrics", "Every metric", METRICS),
            ],
            "templating": {
                "list": [
                    {
                        "type": "datasource",
                        "name": "datasource",
                        "label": "Prometheus",
                        "query": "prometheus",
                        "current": {},
                        "hide": 0,
                        "includeAll": False,
                        "multi": False,
                        "options": [],
                        "refresh": 1,
                        "regex": "",
                        "skipUrlSync": False,
                    },
                    variable("job", "Job", "label_values(runqy_worker_info, job)"),
                    # Of ten thousand workers "all" must not become a matcher of ten thousand names.
                    variable(
                        "instance", "Worker", promql("label_values(runqy_worker_info{<JOB>}, instance)"), allValue=".+"
                    ),
                    variable(
                        "queue", "Queue", promql("label_values(runqy_queue_pending_tasks{<JOB>}, queue)"), allValue=".+"
                    ),
                ]
            },
            "annotations": {
                "list": [
                    {
                        "name": "Annotations & Alerts",
                        "type": "dashboard",
                        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                        "builtIn": 1,
                        "enable": True,
                        "hide": True,
                        "iconColor": "rgba(0, 211, 255, 1)",
                    },
                    {
                        "name": "Alerts",
                        "datasource": SOURCE,
                        "enable": True,
                        "iconColor": "red",
                        "step": "60s",
                        "expr": 'ALERTS{alertname=~"Runqy.+", alertstate="firing"}',
                        "titleFormat": "{{alertname}}",
                        "textFormat": "{{instance}}{{queue}}",
                        "tagKeys": "severity,job,instance,queue",
                    },
                ]
            },
            "panels": board.panels,
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()
