"""From options to a finished run: prepare, plan, build the workers, drive, account."""
