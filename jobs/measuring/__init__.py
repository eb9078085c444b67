"""What each stage of a run could do at most."""
