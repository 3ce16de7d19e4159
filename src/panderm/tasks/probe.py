"""Can they be told apart by what the encoder saw? A probe on embeddings."""

from __future__ import annotations

from pathlib import Path

from panderm.embeddings import Embeddings, open_embeddings
from panderm.predictions import Predictions
from panderm.probing.answer import answer
from panderm.probing.pooled import Pooling, inputs_for
from panderm.probing.splits import Calibrate, asked_by_split
from panderm.probing.units import Unit, UnitPool
from panderm.training.settings import ClassWeight, ProbeKind, ProbeSettings, Recipe


def probe(
    embeddings: Embeddings | Path | str,
    *,
    kind: ProbeKind = "linear",
    recipe: Recipe = "tuned",
    train: str = "train",
    val: str = "val",
    test: str = "test",
    percent_data: float = 1.0,
    C: float | None = None,
    k: int | None = None,
    class_weight: ClassWeight = "none",
    sample_weight: str | None = None,
    pooling: Pooling = "stored",
    unit: Unit = "image",
    unit_pool: UnitPool = "embedding",
    float64: bool = False,
    device: str = "auto",
    calibrate: Calibrate = "none",
    seed: int = 0,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Predictions:
    """Fit a probe on one split and predict another, which nobody reads before the fit is done.

    Args:
        embeddings: Embeddings or the folder that holds them.
        kind: ``linear``; ``knn``, the nearest neighbours; ``prototypes``, the nearest class mean;
            ``attentive``, a learned query over patch tokens; ``mlp``, one hidden layer.
        recipe: of a linear probe, ``tuned`` or ``paper``, see :class:`LinearProbe`.
        train: the split to fit.
        val: the split that chooses what is left to be chosen, where it has 100 rows or more and is not
            ``test``; else grouped cross-validation of the training rows does.
        test: the split to predict.
        percent_data: part of the training rows to fit, in (0, 1]: shuffled with seed 42, the first taken,
            as the published probe does.
        C: strength of a linear probe, where it is not to be chosen.
        k: neighbours of ``knn``, where they are not to be chosen.
        class_weight: ``balanced``: each class counts as much as any other, whatever its number of rows. The
            probabilities are then those of a world in which classes are equally frequent.
        sample_weight: column of the table with numbers greater than 0: how much each row counts in the fit.
        pooling: ``stored``, the vectors as they are; ``cls``; ``mean``, of the patch tokens; ``both``, side
            by side; ``choose``, the one of least log loss on the rows that choose.
        unit: ``lesion`` or ``patient``: all images of one are predicted as one row, which has the name of the
            first of them.
        unit_pool: of such a unit the mean ``embedding`` is fitted and predicted, or each image is, and the
            mean ``probability`` told.
        float64: double precision throughout.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        calibrate: ``temperature`` divides the logits by one number, the one of least log loss on the val
            rows (Guo et al., ICML 2017, §4.2): probabilities become more honest, the predicted class stays.
        seed: of starts and folds.
        out: folder to write, ``X.pred``.
        overwrite: replace an ``out`` that exists.
        progress: show progress on standard error.

    Raises:
        DataError: no rows in a split, one class only, a class of the test rows that was never trained; no
            val rows of their own to calibrate on; or images of a unit that differ in split or label.
        UsageError: options that do not go together, no such column, or embeddings without what is asked for.

    Example:
        >>> pred = panderm.probe("ham.emb", recipe="paper", test="test", out="probe.pred")  # doctest: +SKIP
    """
    emb = embeddings if isinstance(embeddings, Embeddings) else open_embeddings(embeddings)
    settings = ProbeSettings(kind, recipe, C, k, class_weight, float64, device, seed)
    inputs = inputs_for(emb, kind, pooling, progress=progress)
    asked = asked_by_split(
        emb.rows,
        settings,
        train=train,
        val=val,
        test=test,
        percent_data=percent_data,
        calibrate=calibrate,
        sample_weight=sample_weight,
        pooling=pooling,
        unit=unit,
        unit_pool=unit_pool,
    )
    predictions = answer(emb, asked, settings, inputs=inputs, progress=progress)
    if out is not None:
        predictions.save(out, overwrite=overwrite)
    return predictions
