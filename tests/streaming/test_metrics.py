from __future__ import annotations

import numpy as np

from streaming.metrics import COUNTERS, Histogram, StreamMetrics, prometheus


def test_quantiles_are_exact_over_the_window() -> None:
    histogram = Histogram(window=100)
    for value in range(250):
        histogram.add(float(value))
    q = histogram.quantiles()
    last = np.arange(150, 250)
    assert (q.p50, q.p95, q.p99) == tuple(np.quantile(last, [0.5, 0.95, 0.99], method="higher"))
    assert q.largest == 249
    assert q.count == 250
    assert histogram.total == sum(range(250))


def test_an_empty_histogram_is_all_zero() -> None:
    assert Histogram().quantiles().as_dict() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0, "count": 0}


def test_prometheus_text_has_every_counter_and_escapes_names() -> None:
    metrics = StreamMetrics()
    metrics.stage('odd"stage').add(2.0)
    metrics.count("misses", 3)
    text = prometheus({"a\nb": metrics}, {"sessions": 1.0})
    assert "visavis_sessions 1" in text
    assert 'visavis_misses_total{session="a\\nb"} 3' in text
    assert 'stage="odd\\"stage",quantile="0.5"} 2.0000' in text
    assert all(f"# TYPE visavis_{name}_total counter" in text for name in COUNTERS)
    for line in text.splitlines():
        assert line.startswith("#") or len(line.rsplit(" ", 1)) == 2
