"""What agents see: two read-only tools, in `tools.py`; an endpoint module publishes them."""
