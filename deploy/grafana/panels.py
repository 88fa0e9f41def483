"""The parts of a Grafana dashboard: panels, thresholds, variables and links, as its JSON model has them."""

RUNBOOK = "https://github.com/runqy/runqy-worker/blob/main/docs/runbook.md"
METRICS = "https://github.com/runqy/runqy-worker/blob/main/docs/metrics.md"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# The choices at the top of the dashboard, as label matchers. Every worker reports the same series about a queue, so
# these are not chosen by worker, and the queries take their maximum.
MATCHERS = {
    "JOB": 'job=~"$job"',
    "WORKER": 'job=~"$job", instance=~"$instance"',
    "QUEUE": 'job=~"$job", queue=~"$queue"',
    "BOTH": 'job=~"$job", instance=~"$instance", queue=~"$queue"',
    "RANGE": "$__rate_interval",
}


def promql(text):
    """A query with the matchers in the places of their names."""
    for name, value in MATCHERS.items():
        text = text.replace(f"<{name}>", value)
    return text


def quantile(q, name="runqy_task_duration_seconds"):
    """From native histograms where they are scraped, else from classic ones."""
    native = f"sum by (job, queue) (rate({name}{{<BOTH>}}[<RANGE>]))"
    classic = f"sum by (job, queue, le) (rate({name}_bucket{{<BOTH>}}[<RANGE>]))"
    return f"histogram_quantile({q}, {native})\nor\nhistogram_quantile({q}, {classic})"


def steps(first, *others):
    """Thresholds: a colour, and the colours from certain values on."""
    found = [{"color": first, "value": None}]
    found += [{"color": color, "value": value} for value, color in others]
    return {"mode": "absolute", "steps": found}


def value_names(*names):
    """Texts and colours in place of values."""
    options = {value: {"color": color, "index": i, "text": text} for i, (value, text, color) in enumerate(names)}
    return [{"type": "value", "options": options}]


class Board:
    """Panels, laid out from left to right in rows of 24 columns."""

    def __init__(self):
        self.panels = []
        self._x = self._y = self._height = 0

    def row(self, title):
        self._x, self._y, self._height = 0, self._y + self._height, 0
        self.panels.append(
            {
                "type": "row",
                "title": title,
                "id": len(self.panels) + 1,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": self._y, "w": 24, "h": 1},
            }
        )
        self._y += 1

    def _place(self, width, height):
        if self._x + width > 24:
            self._x, self._y, self._height = 0, self._y + self._height, 0
        place = {"x": self._x, "y": self._y, "w": width, "h": height}
        self._x, self._height = self._x + width, max(self._height, height)
        return place

    def panel(self, kind, title, description, queries, unit, size, alerts="", table=False, **defaults):
        """queries are pairs of PromQL and legend; alerts names those whose runbook sections are linked."""
        targets = []
        for i, (expr, legend) in enumerate(queries):
            target = {
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": promql(expr),
                "legendFormat": legend,
                "range": not table,
                "refId": chr(ord("A") + i),
            }
            if table:
                target.update(instant=True, format="table")
            targets.append(target)
        links = [
            {"title": "Runbook: " + name, "url": f"{RUNBOOK}#{name.lower()}", "targetBlank": True}
            for name in alerts.split()
        ]
        panel = {
            "type": kind,
            "title": title,
            "description": description,
            "id": len(self.panels) + 1,
            "datasource": SOURCE,
            "gridPos": self._place(*size),
            "links": links,
            "targets": targets,
            "options": {},
            "fieldConfig": {"defaults": dict(unit=unit, **defaults), "overrides": []},
        }
        self.panels.append(panel)
        return panel

    def stat(self, title, description, query, unit, thresholds, alerts="", **defaults):
        """One number, coloured by its thresholds, over its recent history."""
        panel = self.panel(
            "stat",
            title,
            description,
            [(query, "")],
            unit,
            (4, 4),
            alerts,
            thresholds=thresholds,
            color={"mode": "thresholds"},
            **defaults,
        )
        panel["options"] = {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
            "wideLayout": True,
        }

    def graph(
        self, title, description, queries, unit, width=8, alerts="", limit=None, stacked=False, bars=False, **defaults
    ):
        """Lines over time. limit is drawn as one of its own: where an alert fires."""
        thresholds = steps("green") if limit is None else steps("transparent", (limit, "orange"))
        if limit is not None:
            description += " The line is the limit of the alert."
        panel = self.panel(
            "timeseries",
            title,
            description,
            queries,
            unit,
            (width, 8),
            alerts,
            min=0,
            thresholds=thresholds,
            color={"mode": "palette-classic"},
            **defaults,
        )
        panel["fieldConfig"]["defaults"]["custom"] = {
            "axisPlacement": "auto",
            "drawStyle": "bars" if bars else "line",
            "fillOpacity": 80 if bars else 25 if stacked else 8,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "pointSize": 4,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
            "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
        }
        panel["options"] = {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        return panel


def variable(name, label, query, **more):
    """A choice of one, several or all values of a label."""
    return dict(
        {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "multi": True,
            "includeAll": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "options": [],
            "refresh": 2,
            "regex": "",
            "skipUrlSync": False,
            "sort": 1,
        },
        **more,
    )


def outside_link(title, tooltip, url):
    return {
        "type": "link",
        "title": title,
        "tooltip": tooltip,
        "url": url,
        "icon": "doc",
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": True,
    }
