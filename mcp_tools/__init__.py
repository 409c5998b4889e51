"""What agents see: three read-only tools, in `tools.py`; an endpoint module publishes them."""
