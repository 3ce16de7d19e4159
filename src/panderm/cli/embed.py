"""The verb ``embed``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from panderm.cli import options as opt
from panderm.cli.frame import verb
from panderm.errors import PandermWarning, UsageError, in_bytes, plural, some

if TYPE_CHECKING:
    from panderm.embeddings import EmbeddingsCard
    from panderm.embeddings.making.loop import Extraction, Told


@verb
def embed(
    table: opt.TableFile,
    out: Annotated[Path, Option(help="Folder to write, X.emb.", show_default=False)],
    encoder: opt.EncoderName = None,
    weights: opt.Weights = None,
    card: opt.CardFile = None,
    images: opt.Images = None,
    image_column: opt.ImageColumn = "image",
    label: opt.Label = None,
    split_column: opt.SplitColumn = "split",
    patient: opt.Patient = None,
    group: opt.Group = None,
    classes: opt.Classes = None,
    skip_bad: opt.SkipBad = False,
    max_megapixels: opt.MaxMegapixels = opt.MAX_MEGAPIXELS,
    pool: opt.PoolWay = None,
    image_size: opt.ImageSize = None,
    precision: opt.PrecisionName = "fp32",
    engine: Annotated[
        Literal["torch", "openvino", "ray"],
        Option(
            help="What runs the network. openvino: the fastest on a CPU; ray: all machines of a Ray cluster, "
            "from object storage too. Both are extras."
        ),
    ] = "torch",
    compile: opt.Compile = False,  # noqa: A002 (the option's name)
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = None,
    workers: opt.DecodeWorkers = None,
    actors: Annotated[
        int | None,
        Option(
            help="With --engine ray: processes that encode; default: one a GPU, else up to four a machine.",
            min=1,
            show_default=False,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        Option(help="With --engine ray: a cluster that runs; default: this machine.", show_default=False),
    ] = None,
    exact: opt.Exact = False,
    tokens: Annotated[
        bool, Option("--tokens", help="Patch tokens too, float16; what they cost is said before.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> dict[str, Any]:
    """Turn a CSV of images into embeddings; run again after a stop, it goes on.

    Several processes share the work where torchrun or accelerate launch starts them.

    Example: panderm embed ham_clean.csv --images images/ --encoder timm:vit_small_patch14_dinov2
    --weights dinov2_vits14.safetensors --out ham.emb
    """
    load = {
        "name": encoder,
        "weights": weights,
        "card": card,
        "pool": pool,
        "image_size": image_size,
        "precision": precision,
        "compile": compile,
    }
    roles = {
        "images": images,
        "image_column": image_column,
        "label": label,
        "split_column": split_column,
        "patient": patient,
        "group": group,
        "classes": opt.listed(classes),
        "max_megapixels": max_megapixels,
    }
    how = {
        "batch_size": batch_size,
        "exact": exact,
        "tokens": tokens,
        "skip_bad": skip_bad,
        "overwrite": overwrite,
        "progress": not quiet,
    }
    if engine == "ray":
        done = _on_ray(table, out, load | {"device": device}, roles, how, workers, actors, ray_address)
    else:
        if actors is not None or ray_address is not None:
            raise UsageError("--actors and --ray-address need --engine ray.", f"found --engine {engine}")
        done = _here(table, out, load | {"device": device, "engine": engine}, roles, how, workers)
    made = done.embeddings.card
    if not as_json:
        for line in _in_words(out, made, done.told):
            typer.echo(line)
    return _as_dict(out, made, done.told)


def _here(
    table: Path,
    out: Path,
    load: dict[str, Any],
    roles: dict[str, Any],
    how: dict[str, Any],
    workers: int | None,
) -> Extraction:
    from panderm.embeddings.making.ranks import Ranks

    ranks = Ranks.join()  # before torch is imported: it says how loud torch is
    ranks.hush()

    from panderm.cluster.addresses import as_address, is_address
    from panderm.data.packed import pack_table, unpack_table
    from panderm.data.table import read_table
    from panderm.embeddings.making.loop import extract
    from panderm.models.load import load_encoder
    from panderm.models.precision import is_emulated

    for given in (table, roles["images"]):
        if given is not None and is_address(given):
            raise UsageError(
                "table and images must be on this machine's disks.",
                f"found {as_address(given)}",
                "--engine ray reads object storage too",
            )
    with ranks.share():
        eye = load_encoder(**load | {"device": ranks.device(load["device"])})
        ranks.gather(None)
    if load["engine"] == "torch" and ranks.lead and is_emulated(eye.record.precision, eye.device):
        warnings.warn(
            f"this processor has no products in {eye.record.precision}: here it is several times slower than "
            "fp32; --precision auto takes what is fastest",
            PandermWarning,
            stacklevel=2,
        )
    # Images are decoded once, by the loop; what is missing or unfinished is found here, before any compute.
    read = {"skip_bad": how["skip_bad"], "decode": False, "progress": how["progress"]}
    rows = ranks.agree(lambda: read_table(table, **roles, **read), pack=pack_table, unpack=unpack_table)
    return extract(eye, rows, out, workers=workers, ranks=ranks, **how)


def _on_ray(
    table: Path,
    out: Path,
    load: dict[str, Any],
    roles: dict[str, Any],
    how: dict[str, Any],
    workers: int | None,
    actors: int | None,
    address: str | None,
) -> Extraction:
    from panderm.cluster.ray_engine import embed_with_ray
    from panderm.embeddings.making.ranks import require_alone

    require_alone("embed --engine ray", hush=True)
    if workers is not None:
        raise UsageError(
            "--workers must be left out with --engine ray.",
            "there Ray says how many decode",
            "--actors says how many processes encode",
        )
    return embed_with_ray(table, out, load=load, table_options=roles, actors=actors, address=address, **how)


def _in_words(out: Path, card: EmbeddingsCard, told: Told) -> list[str]:
    """Return the block that ends the verb."""
    encoder, decoding = card.encoder, card.decoding
    random = " (weights drawn at random)" if encoder.random else ""
    lines = [f"{out}: {plural(card.rows, 'image')} × {encoder.dim} by {encoder.name}{random}"]
    lines.append(f"weights: {encoder.account}")
    lines.append(f"rows: {_rows_in_words(card.rows, told)}")
    if card.table.skipped:
        lines.append(f"left out: {plural(len(card.table.skipped), 'row')}, listed in {out}/card.json")
    if card.drift is not None or encoder.engine != "torch":
        by = "" if encoder.engine == "torch" else " by OpenVINO"
        seen = "images it was not calibrated on" if encoder.precision == "int8" else "the first images"
        drift = f"; centred cosine to fp32 {card.drift:.4f} on {seen}" if card.drift else ""
        lines.append(f"precision: {encoder.precision}{by}{drift}")
    if card.tokens is not None:
        shape = " × ".join(str(n) for n in (*card.tokens.grid, card.tokens.dim))
        held = sum(part.bytes for part in card.token_parts)
        lines.append(f"patch tokens: {shape} float16 an image, {in_bytes(held)}")
    way = "as the reference" if decoding.exact else "fast"
    seen = ""
    if decoding.levels is not None:
        fast = "fast decoding was " if decoding.exact else ""
        most = f"at most {plural(decoding.levels, 'level')} of 255"
        seen = f"; {fast}{most} from the reference on the first {plural(decoding.images, 'image')}"
    lines.append(f"decoding: {way}{seen}")
    if told.rate is not None:
        waited = ""
        if told.waited is not None:
            kind = {"threads": "thread", "processes": "process"}.get(told.kind or "", "")
            decoded = f" (decoded in {plural(told.workers, kind, told.kind)})" if told.workers else ""
            bound = "the network" if told.waited < 0.5 else "decoding"
            share = f"the network waited for images {told.waited:.0%} of the time"
            waited = f"; {share}{decoded}: {bound} is the bound"
        lines.append(f"rate: {told.rate:.3g} images/s for {_seconds(told.seconds)}{waited}")
    if len(told.ranks) > 1:
        shares = ", ".join(f"{n:,}" for n in told.ranks)
        lines.append(f"processes: {len(told.ranks)}, of {shares} images")
    return lines


def _rows_in_words(rows: int, told: Told) -> str:
    if not told.embedded and not told.changed and not told.removed:
        return "all were there already"
    parts = [f"{told.embedded:,} embedded now"]
    if (kept := rows - told.embedded) > 0:
        parts.append(f"{kept:,} there already")
    if told.changed:
        parts.append(f"{len(told.changed):,} of another file than before ({some(told.changed, 3)})")
    if told.removed:
        gone = f"{len(told.removed):,} no longer in the table"
        parts.append(f"{gone} ({some(told.removed, 3)}), their vectors kept aside")
    return "; ".join(parts)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _as_dict(out: Path, card: EmbeddingsCard, told: Told) -> dict[str, Any]:
    return {
        "embeddings": str(out),
        "rows": card.rows,
        "dim": card.encoder.dim,
        "encoder": card.encoder.name,
        "random": card.encoder.random,
        "weights_sha256": card.encoder.weights_sha256,
        "account": card.encoder.account,
        "engine": card.encoder.engine,
        "precision": card.encoder.precision,
        "drift": card.drift,
        "decoding": card.decoding.model_dump(mode="json"),
        "batch_size": card.batch_size,
        "identity": card.identity,
        "embedded": told.embedded,
        "new": told.new,
        "changed": list(told.changed),
        "removed": list(told.removed),
        "images_per_second": told.rate if told.embedded else card.images_per_second,
        "waited": told.waited,
        "processes": list(told.ranks),
        "workers": told.workers,
        "workers_kind": told.kind,
        "tokens": told.tokens,
        "seconds": card.provenance.seconds,
        "skipped": [bad.model_dump() for bad in card.table.skipped],
        "warnings": list(card.table.warnings),
    }
