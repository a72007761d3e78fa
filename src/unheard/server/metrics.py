"""Prometheus metrics of one server process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Counter("unheard_requests", "Requests answered", ("method", "path", "status"), registry=REGISTRY)
AUDIO = Counter("unheard_audio_seconds", "Seconds of audio scored", registry=REGISTRY)
WORK = Histogram("unheard_work_seconds", "Seconds of scoring per recording", registry=REGISTRY)
QUEUED = Histogram("unheard_queue_seconds", "Seconds a recording waited before scoring", registry=REGISTRY)
RUNNING = Gauge("unheard_recordings", "Recordings waiting or being scored", registry=REGISTRY)
STREAMS = Gauge("unheard_streams", "Live streams", registry=REGISTRY)
UPLOADS = Gauge("unheard_upload_bytes", "Bytes held by uploads", registry=REGISTRY)
