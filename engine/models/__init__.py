"""Networks: from files to bound graphs. MXNet is imported nowhere else."""
