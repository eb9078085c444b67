"""A run that grows: a larger ``--limit``, or none, adds images behind those it has.

What is done stays valid, for the fingerprint stays: it covers the images that the run was
begun with, and ``run.json`` has their number and the digest of all. The last shard may have
been shorter than the others; it is computed again.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from shardcam.engine.rundir.listing import Listing, listing_digest
from shardcam.engine.rundir.run_json import Manifest, as_stored, is_raised


def grown(stored: Manifest, wanted: Manifest, listing: Listing) -> Manifest:
    """The manifest of a run that goes on, with `listing`, as `wanted` says.

    If that adds images to a run, it is `stored` with more of them, else `wanted`; it may be
    of another run altogether.
    """
    there, now = stored.plan["samples"], wanted.plan["samples"]
    if _but_source(stored) != _but_source(wanted):
        return wanted
    if stored.source == wanted.source:
        begun = wanted.numbers | {"source": stored.numbers["source"]}
        return replace(wanted, numbers=begun, grown=stored.grown)
    limits = stored.config.get("limit"), wanted.config.get("limit")
    if now <= there or not is_raised(*limits):
        return wanted
    if listing_digest(islice(listing, there)) != stored.source:
        return wanted
    return replace(
        stored,
        config=stored.config | {"limit": limits[1]},
        plan=wanted.plan,
        grown={"begun": stored.grown.get("begun", there), "source": wanted.source},
    )


def _but_source(manifest: Manifest) -> dict[str, Any]:
    return {name: v for name, v in as_stored(manifest.numbers).items() if name != "source"}
