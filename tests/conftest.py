"""Set the threads before any test module imports MXNet."""

from engine.workers.threads import limit_threads

limit_threads(2)
