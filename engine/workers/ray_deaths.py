"""What a worker's death means, and how it is told: without Ray's ids, and by a node's name."""

from __future__ import annotations

import re

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

_MEMORY = re.compile(r"was ([\d.]+ ?GB used / [\d.]+ ?GB limit)")
_EXIT_CODE = re.compile(r"exits? with an exit code (\d+)")
_END_OF_FILE = "connection error code 2"  # all that Ray knows of a process that is gone
_IDS = re.compile(r"\([^()]*\bid[:=][^()]*\)|\b[0-9a-f]{16,}\b", re.IGNORECASE)
_NEVER_RAN = "The actor never ran"
_GUESSES = " Some common causes include"


def node_lost(error: RayError, node: str | None) -> bool:
    """Whether the worker went with its node, which is not its shard's fault."""
    if isinstance(error, ActorUnavailableError) or getattr(error, "preempted", False):
        return True
    if not isinstance(error, ActorDiedError):
        return False
    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}  # type: ignore[no-untyped-call]
    if node is None:  # it was starting: Ray alone knows where
        return "its node has died" in str(error)
    return node not in alive


def node_loss(host: str | None) -> str:
    """How it is told that a worker went with its node."""
    return "the node it started on was lost" if host is None else f"node {host} was lost"


def death_reason(error: RayError) -> str:
    """Why a worker died, as far as Ray knows."""
    text = str(error)
    if memory := _MEMORY.search(text):
        return f"ended by Ray, for its node is low on memory: {memory[1]}"
    if code := _EXIT_CODE.search(text):
        return f"its process ended with exit code {code[1]}"
    if _END_OF_FILE in text:
        return "its process is gone: it crashed or was killed, perhaps for want of memory"
    lines = [line.strip() for line in text.splitlines()]
    exact = [line for line in lines if line and not line.startswith(_NEVER_RAN)]
    told = (exact[-1] if exact else type(error).__name__).partition(_GUESSES)[0]
    return re.sub(r"\s+", " ", _IDS.sub("", told)).strip()
