"""What is asked of upstreams, and what is believed of their responses."""
