"""The bus as Prometheus sees it; its counters are read when somebody looks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from realtime.cluster import Cluster


class BusCollector(Collector):
    """The counters of one end of the bus."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        bus = self._cluster
        yield GaugeMetricFamily("parley_bus_connected", "Whether Redis carries events", value=bus.connected)
        yield GaugeMetricFamily("parley_bus_whole", "Whether every node is heard as well", value=bus.hears_all)
        counters = {
            "published": ("Frames and logged events that Redis took", bus.published),
            "failed_publishes": ("Frames and logged events that Redis did not take", bus.failed_publishes),
            "taken": ("What was heard of other nodes", bus.taken),
            "echoes": ("Own frames that came back, dropped unread", bus.echoes),
            "losses": ("Connections to Redis that were lost", bus.losses),
            "doubted_rooms": ("Rooms and users to be healed, for something may have been missed", bus.doubted),
            "late_channels": ("Channels that stood only after somebody had given up waiting", bus.late_channels),
        }
        for name, (help_text, value) in counters.items():
            yield CounterMetricFamily(f"parley_bus_{name}", help_text, value=value)
