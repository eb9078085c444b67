"""What happens to a run: the values that `on_event` of `shardcam.extract` is called with.

Those that are logged are lines of the run's ``events.jsonl`` too, with the same fields::

    from shardcam import events, extract

    def show(event: events.Event) -> None:
        if isinstance(event, events.ShardDone):
            print(event.images, "images done")

    extract("photos", model="efficientnet_lite0", out="runs/photos", on_event=show)
"""

from shardcam.engine.run.extraction import RunPlanned
from shardcam.engine.rundir.events import (
    AgreementMeasured,
    ClusterShared,
    CoresShared,
    Progress,
    RunAwaited,
    RunEnded,
    RunOpened,
    RunStarted,
    SampleGivenUp,
    SearchStarted,
    ShardDone,
    ShardStarted,
    SourceListing,
    WorkerLost,
    WorkerRecycled,
    WorkerStarted,
    WorkersUnneeded,
    WorkerWaiting,
)
from shardcam.engine.types import Event

__all__ = [
    "AgreementMeasured",
    "ClusterShared",
    "CoresShared",
    "Event",
    "Progress",
    "RunAwaited",
    "RunEnded",
    "RunOpened",
    "RunPlanned",
    "RunStarted",
    "SampleGivenUp",
    "SearchStarted",
    "ShardDone",
    "ShardStarted",
    "SourceListing",
    "WorkerLost",
    "WorkerRecycled",
    "WorkerStarted",
    "WorkerWaiting",
    "WorkersUnneeded",
]
