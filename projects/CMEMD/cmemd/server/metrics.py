"""What the server counts and times, in Prometheus's format."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_TOGETHER = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one server; each has a registry of its own.

    Attributes:
        requests: by route, method and status.
        seconds: of requests, by route.
        stages: seconds of decoding, embedding, searching and committing.
        together: queries that were embedded and searched at once.
        refused: by reason.
        rows: in the gallery, by modality.
        version: number of the gallery's commit that is searched.
        reloads: of the gallery, by result.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "cmemd_requests", "Requests.", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "cmemd_request_seconds",
            "Time until the end of an answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "cmemd_stage_seconds",
            "Time of a stage of the work.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.together = Histogram(
            "cmemd_queries_together",
            "Queries that were embedded and searched at once.",
            buckets=_TOGETHER,
            registry=registry,
        )
        self.refused = Counter("cmemd_refused", "Refusals.", ("reason",), registry=registry)
        self.rows = Gauge(
            "cmemd_gallery_rows", "Rows of the gallery.", ("modality",), registry=registry
        )
        self.version = Gauge("cmemd_gallery_version", "Commit that is searched.", registry=registry)
        self.reloads = Counter(
            "cmemd_gallery_reloads", "Reloads of the gallery.", ("result",), registry=registry
        )

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self.registry)
