"""What is shown over HTTP: the zone, the metrics, the status page."""
