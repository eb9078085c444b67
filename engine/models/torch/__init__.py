"""The second runtime: the same graphs in PyTorch. Nothing here imports MXNet."""
