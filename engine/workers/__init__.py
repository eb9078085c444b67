"""Where shards run: in this process, or on Ray."""
