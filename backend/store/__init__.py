"""Where vectors live: Qdrant Edge in process, and an exact oracle that tests compare it with."""
