"""``panderm models pull``: from a name to the files to download, and what they must be when they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from panderm.errors import UsageError, WeightsError
from panderm.models.cards import EncoderCard
from panderm.models.families import family_of
from panderm.models.load import WEIGHTS_NAMES, hint_for
from panderm.models.names import find_card, read_json
from panderm.weights import download, hosts
from panderm.weights.account import Account, require_fit
from panderm.weights.cache import Source, held
from panderm.weights.checkpoint import read_state
from panderm.weights.packaged import packaged

_CONFIGURATIONS = ("config.json", "open_clip_config.json", "preprocessor_config.json")


def pull(
    name: str,
    *,
    accept_licence: bool = False,
    ask: Callable[[str], bool] | None = None,
    progress: bool = True,
) -> Path:
    """Download an encoder's weights into the cache, once; later calls return what is there, verified.

    Args:
        name: as for :func:`panderm.load_encoder`.
        accept_licence: accept the licence of the weights beforehand.
        ask: gets the licence and a question, returns whether the answer was yes.
        progress: show a bar.

    Returns:
        The weights file. ``load_encoder(name)`` finds it by itself.

    Raises:
        UsageError: no such encoder, nothing to download, or the licence was not accepted.
        WeightsError: no network, nothing (or something else) at the address, or a file that does not fit.
        ArtifactError: no room on the disk, a folder that cannot be written, or a damaged record.

    Example:
        >>> panderm.pull("panderm-base", accept_licence=True)  # doctest: +SKIP
        >>> encoder = panderm.load_encoder("panderm-base")  # doctest: +SKIP
    """
    given: dict[str, Any] = {"accept_licence": accept_licence, "ask": ask, "progress": progress}
    if name.startswith(("hf-hub:", "transformers:")):
        return _pull_repository(name, given)
    card = find_card(name)
    if card.random or packaged(name) is not None:
        raise UsageError(
            f"{name} needs no download.",
            "its weights are drawn at random when it is loaded"
            if card.random
            else "its weights are in the package",
            "use it as it is",
        )
    if not card.files:
        raise UsageError(
            f"the address of the weights of {name} must be known.",
            f"its source: {card.source}",
            "fetch the file by hand and name it with --weights FILE",
        )

    def bring(files: Sequence[Source]) -> Path:
        return download.pull(
            name,
            files,
            licence=card.licence,
            citation=card.citation,
            inspect=lambda path: _inspect(path, card),
            **given,
        ).path

    try:
        return bring(card.files)
    except WeightsError as error:
        if card.files[0].kind != "hub" or not _is_without_file(error):
            raise
        # Somebody has renamed the file there: take what the repository has.
        repository = card.files[0].where
        return bring([_weights_of(repository, _listed(repository)[0])])


def _pull_repository(name: str, given: dict[str, Any]) -> Path:
    """Bring a repository of the Hub whose card can only be made of the configuration that lies in it."""
    repository = name.partition(":")[2]
    found = held(name)
    if found is not None:
        sources = [file.source for file in found.record.files]
        licence = found.record.licence
    else:
        files, licence = _listed(repository)
        sources = [_weights_of(repository, files)]
        sources += [
            Source(kind="hub", where=repository, file=file) for file in _CONFIGURATIONS if file in files
        ]
        if len(sources) == 1:
            raise WeightsError(
                f"{name} must have a configuration beside its weights.",
                f"https://huggingface.co/{repository} has no {' and no '.join(_CONFIGURATIONS[:2])}",
                "describe it in a card of your own (--card), and name its weights with --weights FILE",
            )
    citation = f"see https://huggingface.co/{repository.partition('@')[0]}"
    return download.pull(
        name, sources, licence=licence, citation=citation, inspect=_inspect_unknown, **given
    ).path


def _listed(repository: str) -> tuple[list[str], str]:
    """Ask the Hub which files a repository has, and under which licence.

    Raises:
        WeightsError: no network, no such repository, or not for this user.
    """
    from huggingface_hub import HfApi

    identifier, _, revision = repository.partition("@")
    stand_in = Source(kind="hub", where=repository, file=WEIGHTS_NAMES[0])
    api = HfApi(endpoint=hosts._HUB, user_agent=hosts.agent())
    try:
        found = api.model_info(identifier, revision=revision or None)
    except Exception as error:
        _explain(error, stand_in)
    licence = getattr(found.card_data, "license", None) if found.card_data is not None else None
    named = [tag.removeprefix("license:") for tag in found.tags or () if tag.startswith("license:")]
    stated = licence or (named[0] if named else None)
    page = f"https://huggingface.co/{identifier}"
    words = f"{stated} ({page})" if stated else f"not stated in a form to be read; see {page}"
    return [file.rfilename for file in found.siblings or ()], words


def _explain(error: Exception, source: Source) -> NoReturn:
    try:
        hosts.refused_by_the_hub(error, source)
    except (hosts.UnreachedError, hosts.RefusedError) as told:
        raise WeightsError(
            "the list of files must come from the Hub.",
            f"https://huggingface.co/{source.where.partition('@')[0]} cannot be reached: {told}",
            "where there is a network, fetch the weights and config.json into one folder, "
            "and name it with --weights FOLDER",
        ) from error


def _is_without_file(error: WeightsError) -> bool:
    """Say whether the Hub answered that the repository is there, but not the file."""
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error.__cause__, EntryNotFoundError)


def _weights_of(repository: str, files: Sequence[str]) -> Source:
    for usual in WEIGHTS_NAMES:
        if usual in files:
            return Source(kind="hub", where=repository, file=usual)
    raise WeightsError(
        "a repository must hold weights under one of their usual names.",
        f"https://huggingface.co/{repository.partition('@')[0]} has none of {', '.join(WEIGHTS_NAMES)}",
        "fetch its weights by hand and name them with --weights FILE",
    )


def _inspect(path: Path, card: EncoderCard) -> None:
    """Refuse a download that is no weights file of its card, by names and shapes."""
    outline = read_state(path, Account(), data=False)
    try:
        family = family_of(card)
        network = family.build(card, None)
    except UsageError:  # its library is not installed here: loading will compare
        return
    state = family.adapt(outline, network, card, Account(), path)
    require_fit(state, network.state_dict(), path=path, name=card.name, hint=hint_for(state, card))


def _inspect_unknown(path: Path) -> None:
    """Refuse a download that is neither a configuration nor a whole weights file."""
    if path.suffix == ".json":
        read_json(path)
    else:
        read_state(path, Account(), data=False)
