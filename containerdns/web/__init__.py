"""HTTP: the zone, the metrics, the status page."""
