"""Questions to upstreams, and the validation of their responses."""
