"""Where the encoder looked: its attention laid over an image, by the encoder that predicted it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data.overlay import overlay
from panderm.errors import ArtifactError, PandermError, ParentsError, UsageError
from panderm.predictions import Predictions, PredictionsCard
from panderm.report.mistakes.pictures import SIDE, thumbnail
from panderm.report.with_columns import without_image

Image8 = npt.NDArray[np.uint8]

_DECISIVE = ("weights_sha256", "dim", "pool", "image_size", "preprocess")
WHAT = (
    "Beside each image, where the encoder’s class token read: attention rollout through all blocks (Abnar "
    "and Zuidema, 2020), each map on its own scale from dark (little) to yellow (much), one patch in a "
    "hundred off the scale, what the network never saw in grey. Attention is no explanation of the probe’s "
    "decision: it can often be changed without changing the answer, and the probe reads the whole vector."
)


class Attention:
    """The encoder of some predictions, loaded again, for maps of what its class token attends to.

    Args:
        card: of the predictions.
        weights: the encoder's file; by default the one on the card, where it still lies there.
        encoder_card: JSON file that describes an encoder of the user's own.

    Raises:
        ArtifactError: predictions that were read from a file, or of columns alone.
        UsageError: no file of weights, or an encoder that is not known.
        ParentsError: weights, or a form, that did not make these embeddings.
        WeightsError: a file that is not of this encoder.
    """

    def __init__(
        self,
        card: PredictionsCard,
        *,
        weights: Path | str | None = None,
        encoder_card: Path | str | None = None,
    ) -> None:
        made_of = card.made_of("An attention overlay").encoder
        if without_image(card.method):
            raise ArtifactError(
                "an attention overlay needs predictions of images.", "this probe saw columns alone"
            )
        file = weights if weights is not None else made_of.weights
        if weights is None and file is not None and not Path(file).exists():
            raise UsageError(
                "--attention needs the weights that made the embeddings.",
                f"they lay in {file}, which is not there any more",
                "name the file with --weights",
            )
        from panderm.models.load import load_encoder

        self._encoder = load_encoder(
            made_of.name,
            weights=weights if made_of.random else file,
            card=encoder_card,
            pool="cls" if made_of.pool == "cls" else "mean" if made_of.pool == "mean" else None,
            image_size=made_of.image_size,
        )
        ours = self._encoder.record
        differ = [name for name in _DECISIVE if getattr(ours, name) != getattr(made_of, name)]
        if differ:
            raise ParentsError(
                "attention must be that of the encoder that made the embeddings.",
                [
                    f"{file or made_of.name} is {ours.name}, weights {ours.weights_sha256[:12]}",
                    f"the embeddings were made by {made_of.name}, weights {made_of.weights_sha256[:12]}",
                    f"they differ in: {', '.join(differ)}",
                ],
                "name the file that panderm embed was given with --weights",
            )

    def picture(self, rgb: Image8) -> str:
        """Return an RGB image (H, W, 3) under the rollout of its attention, small, as a ``data:`` address.

        Raises:
            UsageError: an encoder without a class token.
        """
        pixels = self._encoder.preprocess(rgb).numpy()[None]
        seen = self._encoder.attention(pixels, rollout=True)[0]
        high = float(np.percentile(seen, 99))
        limits = (float(seen.min()), high) if high > float(seen.min()) else None
        laid = overlay(rgb, seen, preprocess=self._encoder.preprocess, limits=limits)
        return thumbnail(laid, SIDE, quality=80)


def require_attention(
    predictions: Predictions, *, weights: Path | str | None = None, card: Path | str | None = None
) -> Attention:
    """Load the encoder of some predictions and see, on a grey image, that it has attention to show.

    Raises:
        PandermError: as of :class:`Attention`, or an encoder without a class token.
    """
    found = Attention(predictions.card, weights=weights, encoder_card=card)
    side = predictions.card.made_of("An attention overlay").encoder.image_size
    try:
        found.picture(np.full((side, side, 3), 128, dtype=np.uint8))
    except PandermError as error:
        raise UsageError("--attention needs an encoder with a class token.", error.must, error.hint) from None
    return found
