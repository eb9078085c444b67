"""What this machine has, and what each stage of a run could do at most on it."""
