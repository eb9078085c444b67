"""What Ray says of a worker that is gone, in a person's words."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RaySystemError

from shardcam.engine.workers.ray_deaths import death_reason, node_loss, node_lost

ID = "6ebd6447a39b9f4b8b28bed001000000"
LEASE = "01000000247b6d8be360b4605a906f2562b07cda77bb7089d95b86f120cf94d1"
DIED = f"""The actor died unexpectedly before finishing this task.
\tclass_name: _Worker
\tactor_id: {ID}
\tnamespace: 0cdd8793-8d40-4242-b529-d6b0506a413b
\tip: 10.0.0.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: """
GUESSES = " Some common causes include: (1) the process was killed by the OOM killer due to high"
MEMORY = (
    f"Task was killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, ID: "
    f"{ID}) was 15.3GB used / 16.0GB limit (0.956250) where the lease (lease ID: {LEASE}, "
    "name=_Worker.__init__, pid=7, memory used=3.1GB) was running."
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"{DIED}Worker unexpectedly exits with a connection error code 2. End of file.{GUESSES}"
            "\nThe actor never ran - it was cancelled before it started running.",
            "its process is gone: it crashed or was killed, perhaps for want of memory",
        ),
        (
            f"{DIED}Worker exits unexpectedly. Worker exits with an exit code 2.",
            "its process ended with exit code 2",
        ),
        (MEMORY, "ended by Ray, for its node is low on memory: 15.3GB used / 16.0GB limit"),
        (
            "The actor died because of an error raised in its creation task, ray::_Worker.__init__"
            f"() (pid=24069, ip=10.0.0.2, actor_id={ID})\nModuleNotFoundError: No module named 'x'",
            "ModuleNotFoundError: No module named 'x'",
        ),
        (
            f"Lost {ID} (lease ID: {LEASE}, name=a, pid=1)  of a node.",
            "Lost of a node.",
        ),
    ],
)
def test_the_reason_without_ids(said, told):
    error = ActorDiedError()
    error.error_msg = said
    assert death_reason(error) == told


def test_a_node_by_its_name():
    gone = ActorUnavailableError("RpcError: RPC error: Socket closed rpc_code: 14", None)
    assert node_lost(gone, "some id")
    assert not node_lost(RaySystemError("raylet"), "some id")
    assert node_loss("gpu07") == "node gpu07 was lost"
    assert node_loss(None) == "the node it started on was lost"
