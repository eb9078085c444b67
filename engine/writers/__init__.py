"""Where results go: HDF5 shards, their index, overlays."""
