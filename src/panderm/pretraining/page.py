"""The page of a pretraining run: its curves, its probe, its pictures, and what it was made of."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from panderm.errors import plural, some
from panderm.pretraining import account
from panderm.pretraining.curves import KINDS, loss_curves, probe_curve, scored, spread_curve, step_curve
from panderm.pretraining.followed import Followed, follow
from panderm.report.mistakes.pictures import Picture, Sheet, Shown
from panderm.report.page import FEW, Banner, ScoreRow, score_row, sentence, template
from panderm.report.record import Grid
from panderm.report.section import Drawing, Rows, told
from panderm.report.words import duration, moment, number, score_words, units
from panderm.scores import LEVEL, Score
from panderm.storage import write_text

PAGE_NAME = "report.html"
_LOOKS = 12  # lines of the probe's table that stand open; more are folded
_BAD = 20  # images that could not be read, likewise
_WIDE = 1200  # pixels of a picture
SCORES = ("balanced_accuracy", "auroc", "auroc_ovo")


def write_page(run: Path | str) -> Path:
    """Write ``report.html`` of a run from its card, its journal and its pictures, and return its path.

    It may be written while the run goes on, as often as one likes; a page that is there is replaced.

    Raises:
        ArtifactError: no such run, or one whose card or journal is damaged.

    Example:
        >>> write_page("run")  # doctest: +SKIP
        PosixPath('run/report.html')
    """
    path = Path(run) / PAGE_NAME
    write_text(path, render_run(follow(run)), overwrite=True)
    return path


def render_run(run: Followed) -> str:
    """Return the complete page of a run."""
    looks = [dict(look) for look in run.looks]
    probed = [look for look in looks if look.get("probe")]
    card = run.card
    page = template("pretraining.html").render(
        title=_title(card),
        lead=_lead(run),
        banners=_banners(run, looks),
        tiles=_tiles(probed),
        level=f"{LEVEL:.0%}".replace("%", " %"),
        progress=_progress(run),
        curves=_curves(run),
        probe=_probe_words(card, probed),
        probe_curves=[drawn for drawn in (_curve_of(probed, score) for score in SCORES) if drawn],
        probe_table=_probe_table(probed[-_LOOKS:]),
        probe_before=_probe_table(probed[:-_LOOKS]),
        spread=_spread(looks),
        spread_curve=spread_curve(looks),
        alarms=_alarms(looks),
        pictures=_pictures(run),
        made_of=account.made_of(card),
        bad=_bad(run),
        bad_kinds=_bad_kinds(run),
        bad_more=max(0, len(run.bad) - _BAD),
        settings=account.settings(card),
        methods=account.methods(card),
        cite=account.to_cite(card, spread=bool(_spread(looks))),
        command=account.part(card, "provenance").get("command", ""),
        facts_of_run=account.facts(run),
        versions=Grid(("package", "version"), account.versions(card)),
        created=moment(str(account.part(card, "provenance").get("created", ""))),
        version=str(account.part(card, "provenance").get("panderm", "")),
    )
    return page.strip() + "\n"


def _title(card: Mapping[str, Any]) -> tuple[str, str]:
    return f"{account.student_of(card)} student", account.teacher_of(card)


def _source(card: Mapping[str, Any]) -> str:
    source = account.part(card, "source")
    where = Path(str(source.get("where", ""))).name
    return f"{source.get('kind', 'a source')} {where}" if where else "a source"


def _lead(run: Followed) -> str:
    plan, source = account.part(run.card, "plan"), account.part(run.card, "source")
    images = int(source.get("count") or plan.get("images") or 0)
    done = float(run.epochs[-1]) if len(run.epochs) else 0.0
    planned = plan.get("epochs")
    of = f" of {plural(int(planned), 'epoch')}" if planned else " epochs"
    hidden = account.hidden_of(run.card)
    hidden = f", {hidden}" if hidden else ""
    return (
        f"{plural(images, 'image')} without labels of {_source(run.card)}{hidden}; "
        f"{round(done, 1):,g}{of}, {plural(int(run.step[-1]) if len(run.step) else 0, 'step')} of "
        f"{plural(int(plan.get('batch') or 0), 'image')}."
    )


def _banners(run: Followed, looks: Sequence[Mapping[str, Any]]) -> list[Banner]:
    found = []
    if str(account.teacher_of(run.card)).startswith("random"):
        text = "Weights drawn at random have nothing to teach: this run shows that the tool works, no more."
        found.append(Banner("stop", "Random teacher", text))
    last = next((look for look in reversed(looks) if "alarms" in look), None)
    for text in (last or {}).get("alarms") or ():
        found.append(Banner("care", f"Alarm after epoch {last['epoch'] if last else 0}", sentence(str(text))))
    planned, done = account.steps_planned(run.card), int(run.step[-1]) if len(run.step) else 0
    if done < planned:
        text = (
            f"{plural(done, 'step')} of {planned:,} are done; the same command goes on from the last "
            "checkpoint."
        )
        found.append(Banner("note", "Not finished", text))
    if run.bad:
        text = f"{plural(len(run.bad), 'image')} could not be read and taught nothing: see “Trained on”."
        found.append(Banner("care", "Images left out", text))
    probe = next((look["probe"] for look in reversed(looks) if look.get("probe")), None)
    if probe and probe["units"] < FEW:
        few = plural(probe["units"], probe["unit"])
        text = f"The probe’s intervals rest on {few} only: they are too narrow."
        found.append(Banner("care", f"Few {units(probe['unit'])}", text))
    return found


def _score(held: Mapping[str, Any]) -> Score:
    return Score(**{name: held.get(name) for name in ("value", "low", "high", "reason", "method")})


def _scores(look: Mapping[str, Any]) -> list[tuple[str, str, Score]]:
    """Return kind, name and score of a look, in the order of a page."""
    return [
        (kind, name, _score(look["probe"][kind]["scores"][name]))
        for kind in KINDS
        for name in SCORES
        if kind in look["probe"] and name in look["probe"][kind]["scores"]
    ]


def _tiles(probed: Sequence[Mapping[str, Any]]) -> list[ScoreRow]:
    if not probed:
        return []
    tiles = []
    for kind, name, score in _scores(probed[-1]):
        row = score_row(name, score)
        title = f"{score_words(name).title.partition(',')[0]}, {KINDS[kind]}"
        tiles.append(ScoreRow(title, row.meaning, row.value, row.interval, row.reason, row.bar))
    return tiles


def _progress(run: Followed) -> list[tuple[str, str]]:
    """Return the numbers of the last epoch in words."""
    if not len(run.step):
        return []
    epoch = int(run.epoch[-1])
    loss, first = run.mean_of_epoch("loss", epoch), run.mean_of_epoch("loss", int(run.epoch[0]))
    rows = [("epoch", f"{epoch:,}"), ("loss, all tokens", f"{number(loss)} (first epoch {number(first)})")]
    for name, title in (("visible", "visible patches"), ("masked", "masked patches"), ("cls", "class token")):
        value = run.mean_of_epoch(name, epoch)
        if math.isfinite(value):
            rows.append((f"loss, {title}", number(value)))
    pace = run.pace[run.epoch == epoch]
    pace = pace[pace == pace]
    if len(pace):
        rows.append(("images a second", f"{pace.mean():,.1f}"))
    seconds = run.numbers["seconds"]
    waited = run.numbers["waited"]
    if seconds[seconds == seconds].sum() > 0:
        share = waited[waited == waited].sum() / seconds[seconds == seconds].sum()
        rows.append(("time of all steps", duration(float(seconds[seconds == seconds].sum()))))
        rows.append(("of it waiting for images", f"{share:.0%}".replace("%", " %")))
    return rows


def _curves(run: Followed) -> list[Drawing]:
    norm, clip = run.numbers["norm"], account.part(run.card, "plan").get("clip")
    over = ""
    if clip is not None and (norm == norm).any():
        share = float((norm[norm == norm] > float(clip)).mean())
        over = f" Larger ones are scaled down to {clip:g}: {share:.0%} of the steps.".replace("%", " %")
    found = [
        loss_curves(run),
        step_curve(
            run,
            run.numbers["rate"],
            name="rate",
            title="Learning rate",
            label="learning rate",
            caption="It rises in the warm-up and falls as half a cosine, step by step.",
        ),
        step_curve(
            run,
            norm,
            name="norm",
            title="Gradient norm",
            label="norm",
            caption=f"Of all gradients together, before clipping.{over}",
        ),
        step_curve(
            run,
            run.pace,
            name="pace",
            title="Speed",
            label="images a second",
            caption="Whole steps: reading, the teacher, forward and backward. After a start it is lower.",
        ),
    ]
    return [drawn for drawn in found if drawn]


def _curve_of(probed: Sequence[dict[str, Any]], score: str) -> Drawing | None:
    return probe_curve(probed, score, score_words(score).title) if probed else None


def _probe_words(card: Mapping[str, Any], probed: Sequence[Mapping[str, Any]]) -> list[str]:
    if not probed:
        return []
    held, last = account.part(card, "probe"), probed[-1]["probe"]
    rows = f" Rows: {held['rows']}." if held.get("rows") else ""
    table = f" of {held['table']}" if held.get("table") else ""
    return [
        f"After some epochs two probes are fitted on {plural(last['fitted'], 'labelled image')}{table} as "
        f"the frozen student sees them, and scored on {plural(last['n'], 'other')}: nearest neighbours by "
        f"cosine similarity, the mean taken away (k = {last['knn']['k']}, every class with as many votes), "
        f"and the logistic probe of panderm probe.{rows}",
        "These labels taught the student nothing. But who picks an epoch or a setting by these scores has "
        "used them: what is reported should come from rows that watched no run.",
    ]


def _probe_table(probed: Sequence[Mapping[str, Any]]) -> Rows | None:
    if not probed:
        return None
    heads = [(kind, name) for kind, name, _ in _scores(probed[-1])]
    lines = []
    for look in probed:
        by = {(kind, name): score for kind, name, score in _scores(look)}
        lines.append((f"{look['epoch']:,}", *(told(by.get(head)) for head in heads)))
    return Rows(
        f"Scores by epoch, with 95 % intervals: {scored(probed[-1]['probe'])}",
        ("epoch", *(f"{score_words(name).title}, {KINDS[kind]}" for kind, name in heads)),
        lines,
    )


def _spread(looks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    now = next((look["spread"] for look in reversed(looks) if look.get("spread")), None)
    if now is None:
        return []
    return [
        ("images", f"{now['n']:,}"),
        ("effective rank", f"{now['effective_rank']:.1f} of {min(now['n'] - 1, now['dim']):,} directions"),
        ("variation of a number", f"{now['std']:.4f}, {now['std_share']:.2f} of 1/√D, D = {now['dim']:,}"),
        ("mean pairwise cosine", number(now["cosine"])),
    ]


def _alarms(looks: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"Epoch {look['epoch']:,}: {sentence(str(text))}"
        for look in looks
        for text in look.get("alarms") or ()
    ]


def _pictures(run: Followed) -> list[Sheet]:
    """Return the first, a middle and the last picture: what changed is seen side by side."""
    files = run.pictures
    if not files:
        return []
    chosen = sorted({0, len(files) // 2, len(files) - 1}, reverse=True)
    return [
        Sheet(
            title=_called(files[i]),
            pictures=[Shown(Picture(_jpeg(files[i])), alt=_alt(files[i]), lines=(), name=files[i].name)],
        )
        for i in chosen
    ]


def _called(file: Path) -> str:
    epoch = "".join(c for c in file.stem if c.isdigit()).lstrip("0") or "0"
    return f"After epoch {int(epoch):,}" if int(epoch) else "Before the first step"


def _alt(file: Path) -> str:
    return (
        f"{_called(file)}: images, what is hidden of them, the cosine of every predicted token to the "
        "teacher's, and the teacher's and the student's tokens as colours"
    )


def _jpeg(file: Path) -> str:
    with Image.open(file) as image:
        shown = image.convert("RGB")
    if shown.width > _WIDE:
        shown = shown.resize((_WIDE, round(shown.height * _WIDE / shown.width)), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    shown.save(target, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def _bad(run: Followed) -> Grid | None:
    rows = [(name, reason) for name, reason in list(run.bad.items())[:_BAD]]
    return Grid(("image", "reason"), rows) if rows else None


def _bad_kinds(run: Followed) -> str:
    kinds = Counter(reason.partition("(")[0].strip() for reason in run.bad.values()).most_common()
    return some([f"{plural(count, 'image')}: {kind}" for kind, count in kinds])
