"""Where mistakes lie together: groups of them, and regions of the embedding that go wrong more often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.errors import plural
from panderm.report.entry import Entry
from panderm.report.mistakes.confused import predicted_name, wrong_of
from panderm.report.mistakes.pictures import SMALL, Sheet, Shown, predicted_picture
from panderm.report.mistakes.space import Ints, Space
from panderm.report.section import Rows, Section, told
from panderm.report.several.keys import letter_of
from panderm.report.words import number, signed, units
from panderm.scores.resampled import Resampling
from panderm.scores.score import TOO_FEW, Score
from panderm.scores.subgroups import FEWEST_UNITS
from panderm.statistics.holm import holm
from panderm.statistics.regions import kmeans_regions, region_errors, share_test
from panderm.statistics.resampling import cluster_codes

IMAGES_A_REGION = 30
ERRORS_A_REGION = 8
MOST_REGIONS = 16
MISTAKES_A_GROUP = 10
MOST_GROUPS = 6
FEWEST_MISTAKES = 12
FEWEST_ROWS = 60
PICTURES = 8
SEED = 0  # of k-means

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Region:
    """Rows that lie together in the embedding, and how often they went wrong.

    Attributes:
        number: from 1, the largest first.
        rows: positions among the predicted rows, the nearest to the middle first.
        units: independent units among them.
        rate: share of them that went wrong.
        gap: that share minus the share of all other rows.
        expected: the share that would go wrong if each class did here as it does on the whole.
        p: of the gap, corrected by Holm over all regions; None where it is too few to say.
    """

    number: int
    rows: Ints
    units: int
    rate: Score
    gap: Score
    expected: float
    p: float | None


def regions_of(entry: Entry, space: Space) -> list[Region]:
    """Return the regions of an embedding and their error rates, the highest above the rest first.

    As many regions as would each hold 30 scored images and 8 mistakes if they were spread evenly, from 2 to
    16, by k-means on the vectors alone: where the mistakes are is not looked at before the regions stand. A
    region of fewer than 10 independent units has no rate.

    Args:
        entry: the evaluation.
        space: its embeddings.
    """
    given, scores = entry.predictions, entry.scores
    wrong, truth = wrong_of(entry), given.truth_codes()
    clusters, unit = cluster_codes(given.patient, given.group, len(given))
    engine = Resampling(clusters, unit, scores.draws, scores.seed)
    rarer = min(int(wrong.sum()), int((~wrong).sum()))
    k = int(np.clip(min(len(given) // IMAGES_A_REGION, rarer // ERRORS_A_REGION), 2, MOST_REGIONS))
    region, distance = kmeans_regions(space.scored.vectors, space.rows, k, seed=SEED)
    count = int(region.max()) + 1
    made = engine.scores(region_errors(wrong, region))
    n_units = [len(np.unique(clusters[region == i])) for i in range(count)]
    enough = [n >= FEWEST_UNITS for n in n_units]
    tested = [share_test(wrong, region == i, clusters) if enough[i] else None for i in range(count)]
    by_class = np.bincount(truth, wrong, len(given.classes)) / np.maximum(np.bincount(truth), 1)
    found = []
    for i, p in enumerate(holm(tested)):
        rows = np.flatnonzero(region == i)
        few = Score(None, None, None, f"{TOO_FEW}: {plural(n_units[i], unit)}")
        rate = engine.share(made[f"rate {i}"], wrong, region == i) if enough[i] else few
        gap = made[f"gap {i}"] if enough[i] else few
        nearest = rows[np.argsort(distance[rows], kind="stable")]
        found.append(Region(i + 1, nearest, n_units[i], rate, gap, float(by_class[truth[rows]].mean()), p))
    return sorted(found, key=lambda one: -(-2.0 if one.gap.value is None else one.gap.value))


def groups_of_mistakes(entry: Entry, space: Space) -> list[Ints]:
    """Return groups of mistakes that lie together, largest first, the nearest to the middle first.

    One group for every 10 mistakes, from 2 to 6, by k-means on the vectors of the mistakes alone; of fewer
    than 12 mistakes none.
    """
    rows = np.flatnonzero(wrong_of(entry))
    if len(rows) < FEWEST_MISTAKES:
        return []
    k = int(np.clip(len(rows) // MISTAKES_A_GROUP, 2, MOST_GROUPS))
    group, distance = kmeans_regions(space.scored.vectors, space.rows[rows], k, seed=SEED)
    found = []
    for i in range(int(group.max()) + 1):
        here = np.flatnonzero(group == i)
        found.append(rows[here[np.argsort(distance[here], kind="stable")]])
    return found


def together_sections(entries: Sequence[Entry]) -> list[Section]:
    """Return the section on mistakes that lie together; none where no embedding could be found.

    Args:
        entries: one, or several of the same rows.
    """
    several = len(entries) > 1
    sheets, tables, notes = [], [], []
    for i, entry in enumerate(entries):
        space, who = entry.look.space, f"{letter_of(i)}: " if several else ""
        if space is None:
            if entry.look.lost is not None:
                notes.append(f"{who}{entry.look.lost}")
            continue
        groups = groups_of_mistakes(entry, space)[: 2 if several else MOST_GROUPS]
        sheets += [_group_sheet(entry, rows, n + 1, who) for n, rows in enumerate(groups)]
        if not groups:
            notes.append(f"{who}Fewer than {FEWEST_MISTAKES} mistakes are too few to be grouped.")
        if len(entry.predictions) < FEWEST_ROWS or not wrong_of(entry).any():
            notes.append(f"{who}There are no regions: {FEWEST_ROWS} images and a mistake are needed.")
            continue
        regions = regions_of(entry, space)
        tables.append(_table(entry, regions, who))
        worst = [one for one in regions if one.gap.value is not None and one.gap.value > 0]
        sheets += [_region_sheet(entry, one, who) for one in worst[: 1 if several else 3]]
    if not tables and not sheets:
        return []
    scores = entries[0].scores
    how = (
        f"Intervals are of 95 %, by percentile bootstrap of whole {units(scores.unit)}, {scores.draws:,} "
        f"draws, seed {scores.seed}. p is that of the difference from all other images, by a score test with "
        f"{units(scores.unit)} as clusters, corrected by Holm over the regions of one table."
    )
    intro = [*_INTRO, *([how] if tables else []), *notes]
    return [Section("together", "Where mistakes lie together", intro, tables=tables, sheets=sheets)]


_INTRO = (
    "Images that lie together in the embedding look alike to the encoder. Groups of mistakes are k-means of "
    f"the mistakes alone (one group for every {MISTAKES_A_GROUP}, 2 to {MOST_GROUPS}), of which the images "
    "nearest to the middle are shown. A region is a cell of k-means of all scored images: as many regions as "
    f"would each hold {IMAGES_A_REGION} images and {ERRORS_A_REGION} mistakes if they were spread evenly, 2 "
    f"to {MOST_REGIONS}. Vectors are centred and scaled to length 1; which images went wrong is not looked "
    "at before the regions stand.",
    "These are hypotheses, not findings: regions depend on k and on this sample, the worst ones are shown "
    "because they came out worst, and a region may go wrong for the classes in it alone (see “expected of "
    "its classes”). Look at the pictures for what they share, and test that on other images.",
)


def _table(entry: Entry, regions: Sequence[Region], who: str) -> Rows:
    given = entry.predictions
    rows = []
    for one in regions:
        gap = told(one.gap)
        if one.gap.value is not None:
            low, high = one.gap.low, one.gap.high
            gap = signed(one.gap.value)
            gap += f" ({signed(low)} to {signed(high)})" if low is not None and high is not None else ""
        p = TOO_FEW if one.p is None else "< 0.001" if one.p < 0.001 else number(one.p)
        rows.append(
            [
                f"{who}region {one.number}",
                f"{len(one.rows):,}",
                told(one.rate),
                gap,
                number(one.expected),
                p,
                _classes(given.truth[one.rows]),
            ]
        )
    caption = f"{who}Error rate of each region, the highest above the rest first"
    header = (
        "Region",
        "Images",
        "Error rate",
        "Minus the rest",
        "Expected of its classes",
        "p (Holm)",
        "True classes",
    )
    return Rows(caption, header, rows)


def _classes(labels: npt.NDArray[np.object_], most: int = 3) -> str:
    counts = Counter(labels.tolist()).most_common()
    shown = ", ".join(f"{name} {n:,}" for name, n in counts[:most])
    return shown if len(counts) <= most else f"{shown} and {len(counts) - most} more"


def _group_sheet(entry: Entry, rows: Ints, n: int, who: str) -> Sheet:
    given = entry.predictions
    ways = Counter(f"{given.truth[row]} → {predicted_name(given, row)}" for row in rows).most_common(2)
    mostly = ", ".join(f"{way} {count:,}" for way, count in ways)
    title = f"{who}Group {n} of mistakes"
    return Sheet(title, _shown(entry, rows[:PICTURES]), note=f"{plural(len(rows), 'mistake')}: {mostly}")


def _region_sheet(entry: Entry, one: Region, who: str) -> Sheet:
    """Show mistakes and what went right of a region, in the shares they have there."""
    wrong = wrong_of(entry)[one.rows]
    bad = min(int(wrong.sum()), max(1, round(PICTURES * float(wrong.mean()))))
    rows = np.concatenate([one.rows[wrong][:bad], one.rows[~wrong][: PICTURES - bad]])
    note = f"{int(wrong.sum()):,} wrong of {plural(len(one.rows), 'image')}, {told(one.rate)}"
    return Sheet(f"{who}Region {one.number}", _shown(entry, rows), note=note)


def _shown(entry: Entry, rows: Ints) -> list[Shown]:
    given = entry.predictions
    found = []
    for row in rows:
        truth, taken = str(given.truth[row]), predicted_name(given, int(row))
        line = f"{truth} → {taken}" if truth != taken else f"{truth}, right"
        alt = f"{given.image[row]}: in truth {truth}, " + (
            "rightly so" if truth == taken else f"taken for {taken}"
        )
        picture = predicted_picture(given, int(row), side=SMALL, quality=78)
        found.append(Shown(picture, alt, [line], str(given.image[row])))
    return found
