"""A run that remembers what the teacher said: the cache of its targets, filled by all processes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from panderm.embeddings.making.ranks import Ranks
from panderm.pretraining.aligning import Aligning
from panderm.pretraining.run_card import as_json
from panderm.pretraining.target_cache import TargetCache, seconds_per_image
from panderm.progress import say

TARGETS_NAME = "targets"


def filled(folder: Path, learner: Aligning, ranks: Ranks, *, shown: bool) -> TargetCache:
    """Return the targets of all fixed views of a learner's images, computed where they are not there.

    Args:
        folder: theirs; of several processes all must see it.
        learner: gives images, views and the teacher; it has fixed views.
        ranks: the processes; each computes a share.
        shown: say what it costs before, and show a bar.

    Raises:
        ParentsError: the folder holds targets of other images, views or another teacher.
        ArtifactError: the disk has no room for them.
    """
    assert learner.fixed_views is not None
    record = learner.source.record
    made_of: dict[str, Any] = {
        "images": {"sha256": record["sha256"], "count": record["count"]},
        "views": as_json(asdict(learner.views)),
        "count": record["count"],
        "fixed": learner.fixed_views,
        "seed": learner.seed,
    }

    def begin() -> None:
        cache = TargetCache.open(folder, learner.teacher, **made_of)
        if shown:
            todo = cache.cost().images
            say(str(cache.cost(seconds_per_image(learner.teacher) if todo else None)))

    with ranks.share():
        ranks.agree(begin)
        cache = TargetCache.open(folder, learner.teacher, **made_of)
        cache.fill(
            learner.teacher,
            learner.feed,
            rank=ranks.rank,
            ranks=ranks.world,
            shown=shown and ranks.lead,
        )
        ranks.gather(None)
        ranks.agree(lambda: None)  # nobody reads before all have written
    return cache
