"""What a weights file is: which encoder it fits, key by key, and whether that one answers as it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import Field

from panderm.errors import PandermError, UsageError, WeightsError
from panderm.models import cards, fingerprint
from panderm.models.cards import EncoderCard, Fingerprint, Pool, read_encoder_card
from panderm.models.encoder import Encoder
from panderm.models.families import family_of
from panderm.models.header import header_of
from panderm.models.layouts import is_tuned
from panderm.models.load import load_encoder
from panderm.models.names import find_card
from panderm.models.origins import marked, origins_of
from panderm.provenance import Record
from panderm.storage import sha256_of_file
from panderm.weights.account import Account, differences
from panderm.weights.checkpoint import read_state

State = Mapping[str, torch.Tensor]
_SHOWN = 8  # timm's encoders of one outline: those beyond are no help
_TRIED = 3  # encoders that are really loaded, where the first ones refuse the numbers
_WIDTHS = {
    192: ("tiny",),
    384: ("small",),
    768: ("base",),
    1024: ("large",),
    1152: ("so400m",),
    1280: ("huge",),
    1408: ("giant",),
    1536: ("giant",),
}
_MOST_PREFIX_TOKENS = 9  # CLS, a distillation token, registers
_CONVOLUTIONAL = {
    "layer1.0.conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "stages.0.blocks.0.conv_dw.weight": (
        *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnextv2_tiny"),
        *("convnextv2_base", "convnextv2_large"),
    ),
}


class WrongShape(Record):
    """A tensor by its name in the network: its shape in the file, and the one it must have."""

    key: str
    found: tuple[int, ...]
    expected: tuple[int, ...]


class Fit(Record):
    """A file against one encoder, key by key.

    Attributes:
        encoder: its name, and ``form`` how it would pool (None: in its own way).
        fits: every tensor of the file and of the network is explained.
        tensors: how many the network has.
        used: name in the file → names in the network.
        added: names in the network that start at zero, for the file has none (tables of relative positions).
        dropped: why → names in the file.
        missing: names in the network; unexplained: names in the file.
        wrong_shape: the right name, another shape.
        notes: what was done to names and tables.
    """

    encoder: str
    form: Pool | None
    fits: bool
    tensors: int
    used: dict[str, tuple[str, ...]]
    added: tuple[str, ...] = ()
    dropped: dict[str, tuple[str, ...]]
    missing: tuple[str, ...]
    unexplained: tuple[str, ...]
    wrong_shape: tuple[WrongShape, ...]
    notes: tuple[str, ...]

    @property
    def off(self) -> int:
        """How many tensors are missing, unexplained or of another shape."""
        return len(self.missing) + len(self.unexplained) + len(self.wrong_shape)


class SelfTest(Record):
    """What the encoder answered when it was really loaded.

    Attributes:
        passed: finite, the same for the same drawing, another for another, and as before.
        encoder: which one was loaded.
        problem: what is wrong, where it did not pass.
        compared_with: what its answer was compared with; empty where nothing is known yet, and this answer
            was kept for the next time.
        first_numbers: of the vector of the fixed drawing.
    """

    passed: bool
    encoder: str
    problem: str | None = None
    compared_with: tuple[str, ...] = ()
    first_numbers: tuple[float, ...] = ()


class Inspection(Record):
    """What a weights file is.

    Attributes:
        path, bytes, sha256: the file.
        header: the encoder that the card in its header names, where ``panderm convert`` wrote it.
        tensors: how many it holds.
        fits: the encoders it fits, the likeliest first.
        closest: the file key by key against the first of these; against the closest where there is none.
        self_test: of the first one that fits.
        not_tried: encoders that could not be compared, and why.
    """

    path: str
    bytes: int
    sha256: str
    header: str | None
    tensors: int
    fits: tuple[str, ...]
    closest: Fit | None
    self_test: SelfTest | None
    not_tried: dict[str, str] = Field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it fits an encoder that passes its self-test."""
        return self.self_test is not None and self.self_test.passed


def check_weights(
    path: Path | str, *, encoder: str | None = None, card: Path | str | None = None
) -> Inspection:
    """Say what a weights file is; nothing in it is run.

    Names and shapes decide, so that no gigabytes are read for encoders it does not fit; then the one it fits
    is really loaded and asked.

    Args:
        path: the file.
        encoder: compare with this one only; by default with its own card, all known encoders and those of
            timm that could be meant.
        card: or with the encoder of this card, a JSON file.

    Raises:
        UsageError: no such encoder, a card that is wrong, or a library that is not installed.
        WeightsError: the file is missing, damaged, or holds code instead of tensors.

    Example:
        >>> found = panderm.check_weights("panderm_bb_data6_checkpoint-499.pth")  # doctest: +SKIP
        >>> found.fits, found.ok  # doctest: +SKIP
        (('panderm-base',), True)
    """
    file = Path(path).expanduser()
    outline = read_state(file, Account(), data=False)
    header = header_of(file)
    own = header.card.name if header is not None else None
    skipped: dict[str, str] = {}
    if card is not None:
        asked = read_encoder_card(card)
        if encoder not in (None, asked.name):
            raise UsageError("--encoder must be the card's own name, or be left out.", f"found {encoder}")
        fitting = [fit_of(file, asked, form_of(outline, asked))]
    elif encoder is not None:
        asked = find_card(encoder)
        fitting = [fit_of(file, asked, form_of(outline, asked))]
    elif header is not None:
        fitting = [fit_of(file, header.card, header.pool)]
    else:
        fitting = fits_of(file, outline, skipped)
    good = [fit for fit in fitting if fit.fits]
    tests = _first_that_passes(file, good, card, of_header=own is not None and encoder is None)
    chosen = None if tests is None else next(fit for fit in good if fit.encoder == tests.encoder)
    if chosen is not None:
        good.sort(key=lambda fit: fit is not chosen)
    return Inspection(
        path=str(file),
        bytes=file.stat().st_size,
        sha256=sha256_of_file(file),
        header=own,
        tensors=len(outline),
        fits=tuple(fit.encoder for fit in good),
        closest=chosen or min(fitting, key=lambda fit: (fit.off, -len(fit.used)), default=None),
        self_test=tests,
        not_tried=skipped,
    )


def form_of(outline: State, card: EncoderCard) -> Pool | None:
    """Return the form a file is in: ``mean`` for a fine-tuned one, else None, the encoder's own."""
    if card.layout not in ("panderm", "timm") or card.pool is not None:
        return None
    return "mean" if is_tuned(outline) else None


def fit_of(path: Path, card: EncoderCard, pool: Pool | None) -> Fit:
    """Compare a file with an encoder by names and shapes; no number is read.

    Raises:
        UsageError: a library that is not installed.
        WeightsError: the file cannot be read.
    """
    family = family_of(card)
    # A network that nobody runs needs no numbers: all is built without memory.
    with torch.device("meta"):
        network = family.build(card, pool)
        expected = network.state_dict()
    account = Account()
    raw = read_state(path, account, data=False)
    try:
        state = family.adapt(marked(raw), network, card, account, path)
    except WeightsError as error:
        state, account = dict(marked(raw)), Account(notes=list(error.found))
    off = differences(state, expected)
    used: dict[str, list[str]] = {}
    added = []
    for key in expected:
        if key in off.missing or key in off.wrong:
            continue
        for origin in origins_of(state[key]) or ():
            used.setdefault(origin, []).append(key)
        if not origins_of(state[key]):
            added.append(key)
    return Fit(
        encoder=card.name,
        form=pool,
        fits=not off,
        tensors=len(expected),
        used={key: tuple(names) for key, names in used.items()},
        added=tuple(added),
        dropped={why: tuple(keys) for why, keys in account.dropped.items()},
        missing=tuple(off.missing),
        unexplained=tuple(dict.fromkeys((origins_of(state[key]) or (key,))[0] for key in off.unexplained)),
        wrong_shape=tuple(
            WrongShape(key=key, found=tuple(state[key].shape), expected=tuple(expected[key].shape))
            for key in off.wrong
        ),
        notes=tuple(account.notes),
    )


def fits_of(path: Path, outline: State, skipped: dict[str, str]) -> list[Fit]:
    """Compare a file with every known encoder it could be of, and with timm's where none fits."""
    compared = []
    for card in cards.KNOWN:
        if card.random or not _could_be(outline, card):
            continue
        try:
            compared.append(fit_of(path, card, form_of(outline, card)))
        except UsageError as error:
            skipped[card.name] = "; ".join((*error.found, *([error.hint] if error.hint else [])))
    if not any(fit.fits for fit in compared):
        for card in _of_timm(outline):
            fit = fit_of(path, card, form_of(outline, card))
            # Another input size alone makes no other encoder: the table has the size it was trained at.
            if fit.fits and not any(note.startswith("position table resized") for note in fit.notes):
                compared.append(fit)
            if sum(fit.fits for fit in compared) == _SHOWN:
                break
    return compared


def _could_be(outline: State, card: EncoderCard) -> bool:
    """Leave out what needs a slow library for nothing, and a PanDerm tower where there is no CLIP around it.

    DermLIP's PanDerm tower has the very outline of PanDerm's Base: only the names around it tell them apart.
    """
    clip = any(key.startswith("visual.") for key in outline)
    if card.layout == "open_clip":
        return clip
    if card.layout == "transformers":
        return any("vision_model." in key or "embeddings." in key for key in outline)
    return clip == card.double_norm if card.layout == "panderm" else True


def _of_timm(outline: State) -> Iterator[EncoderCard]:
    """Name timm's encoders of the file's width, patch and number of tokens."""
    import timm

    from panderm.models.from_timm import timm_card

    names: list[str] = []
    for sign, some in _CONVOLUTIONAL.items():
        names += some if sign in outline else ()
    patch = outline.get("patch_embed.proj.weight")
    if patch is not None and patch.ndim == 4:
        width, side = patch.shape[0], patch.shape[-1]
        for size in _WIDTHS.get(width, ()):
            names += timm.list_models(f"vit_{size}*_patch{side}*")
    table = outline.get("pos_embed")
    for name in sorted(names, key=lambda name: (len(name), name)):
        try:
            card = timm_card(f"timm:{name}")
        except PandermError:  # not square, or padded: none of ours
            continue
        if patch is not None and table is not None and table.ndim == 3:
            beside = table.shape[1] - (card.image_size // patch.shape[-1]) ** 2
            if not 0 <= beside <= _MOST_PREFIX_TOKENS:
                continue
        yield card


def _first_that_passes(
    path: Path, good: list[Fit], card: Path | str | None, *, of_header: bool
) -> SelfTest | None:
    first = None
    for fit in good[:_TRIED]:
        test = _self_test(path, fit, card, of_header=of_header)
        if test.passed:
            return test
        first = first or test
    return first


def _self_test(path: Path, fit: Fit, card: Path | str | None, *, of_header: bool) -> SelfTest:
    """Load the encoder as any verb would, and look at its answers."""
    described = read_encoder_card(card) if card is not None else None
    if described is None:
        header = header_of(path) if of_header else None
        described = header.card if header is not None else find_card(fit.encoder)
    before = fingerprint.earlier(sha256_of_file(path))
    try:
        eye = load_encoder(fit.encoder, weights=path, card=card, pool=fit.form, device="cpu")
        found = fingerprint.measure(eye)
        problem = _problem_of(eye, found)
    except WeightsError as error:
        return SelfTest(passed=False, encoder=fit.encoder, problem=" ".join((error.must, *error.found)))
    compared = []
    if described.fingerprint is not None and fingerprint.compare(found, described.fingerprint) is not None:
        compared.append("its card")
    if any(fingerprint.compare(found, one) is not None for one in before):
        compared.append("what this file answered when it was first loaded here")
    return SelfTest(
        passed=problem is None,
        encoder=fit.encoder,
        problem=problem,
        compared_with=tuple(compared),
        first_numbers=found.values,
    )


def _problem_of(eye: Encoder, found: Fingerprint) -> str | None:
    size = eye.record.image_size
    one = fingerprint.drawing(size)
    two = torch.randn(one.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        first, other = (eye.network(pixels.to(eye.device)).float() for pixels in (one, two))
    again = torch.tensor(found.values)
    if not bool(torch.isfinite(other).all()):
        return "the vector of a second drawing holds NaN or infinity"
    scale = float(first.square().mean().sqrt())
    if float((first.flatten()[: len(again)] - again).abs().max()) > fingerprint.TOLERANCE * scale:
        return "the same drawing gives another vector the second time"
    if float((first - other).abs().max()) <= 1e-4 * scale:
        return "two different drawings give the same vector: it does not look at the image"
    return None
