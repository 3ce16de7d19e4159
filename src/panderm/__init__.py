"""PanDerm, the open toolkit: from a folder of skin images to numbers that survive a reviewer.

table = panderm.read_table("ham_clean.csv", images="images/")
encoder = panderm.load_encoder("panderm-large", weights="panderm_ll_data6_checkpoint-499.pth")
embeddings = encoder.embed(table, "ham.emb")
predictions = panderm.probe(embeddings, test="test")
scores = panderm.evaluate(predictions)
panderm.Report(predictions, scores).save("report.html")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panderm.benches.benchmark import benchmark as benchmark
    from panderm.classifying.classifier import load_classifier as load_classifier
    from panderm.classifying.predict import predict as predict
    from panderm.classifying.predicted import Predicted as Predicted
    from panderm.data.artefacts.find import find_artefacts as find_artefacts
    from panderm.data.artefacts.table import flag_artefacts as flag_artefacts
    from panderm.data.diagnoses import map_labels as map_labels
    from panderm.data.drawn import draw_world as draw_world
    from panderm.data.images import read_image as read_image
    from panderm.data.layouts.imported import import_images as import_images
    from panderm.data.mapping import map_table as map_table
    from panderm.data.overlay import overlay as overlay
    from panderm.data.preprocess import Preprocess as Preprocess
    from panderm.data.sources.prepare import prepare as prepare
    from panderm.data.table import Table as Table
    from panderm.data.table import read_table as read_table
    from panderm.embeddings import Embeddings as Embeddings
    from panderm.embeddings import open_embeddings as open_embeddings
    from panderm.embeddings.derive.describe import describe_embeddings as describe_embeddings
    from panderm.embeddings.derive.export import export_embeddings as export_embeddings
    from panderm.embeddings.derive.merge import merge_embeddings as merge_embeddings
    from panderm.embeddings.derive.select import select_embeddings as select_embeddings
    from panderm.errors import PandermError as PandermError
    from panderm.errors import PandermWarning as PandermWarning
    from panderm.exported.export import export as export
    from panderm.finetuning.finetune import finetune as finetune
    from panderm.gate.check import Checked as Checked
    from panderm.gate.check import check as check
    from panderm.gate.split import split as split
    from panderm.gate.verify_split import verify_split as verify_split
    from panderm.lesions.measuring import measure_lesions as measure_lesions
    from panderm.lesions.table import LesionTable as LesionTable
    from panderm.models.check import check_weights as check_weights
    from panderm.models.convert import convert as convert
    from panderm.models.encoder import Encoder as Encoder
    from panderm.models.load import load_encoder as load_encoder
    from panderm.models.pulling import pull as pull
    from panderm.pipeline import demo as demo
    from panderm.pipeline import run as run
    from panderm.predictions import MultiLabelPredictions as MultiLabelPredictions
    from panderm.predictions import Predictions as Predictions
    from panderm.predictions import open_multi_label as open_multi_label
    from panderm.predictions import open_predictions as open_predictions
    from panderm.predictions.masks import MaskPredictions as MaskPredictions
    from panderm.predictions.masks import read_masks as read_masks
    from panderm.predictions.recalibrated import recalibrate as recalibrate
    from panderm.pretraining.pretrain import pretrain as pretrain
    from panderm.report import Report as Report
    from panderm.report.check_page import CheckPage as CheckPage
    from panderm.report.curve.curve import curve as curve
    from panderm.report.map.embedding_map import EmbeddingMap as EmbeddingMap
    from panderm.report.map.embedding_map import map_embeddings as map_embeddings
    from panderm.report.masks import MaskReport as MaskReport
    from panderm.report.masks_compared import MaskComparisonReport as MaskComparisonReport
    from panderm.report.multi_label import MultiLabelReport as MultiLabelReport
    from panderm.scores import MultiLabelScores as MultiLabelScores
    from panderm.scores import Scores as Scores
    from panderm.scores import evaluate as evaluate
    from panderm.scores.compare import compare as compare
    from panderm.scores.compared import Comparison as Comparison
    from panderm.scores.masks import MaskScores as MaskScores
    from panderm.scores.masks import evaluate_masks as evaluate_masks
    from panderm.scores.masks_compared import MaskComparison as MaskComparison
    from panderm.scores.masks_compared import compare_masks as compare_masks
    from panderm.segmenting.learning.repeats import repeat_segmenter as repeat_segmenter
    from panderm.segmenting.learning.train import train_segmenter as train_segmenter
    from panderm.segmenting.predicting.masked import Masked as Masked
    from panderm.segmenting.predicting.predict import predict_masks as predict_masks
    from panderm.segmenting.segmenter import load_segmenter as load_segmenter
    from panderm.tasks.external import probe_external as probe_external
    from panderm.tasks.folds import cross_validate as cross_validate
    from panderm.tasks.multi_label import probe_labels as probe_labels
    from panderm.tasks.probe import probe as probe
    from panderm.tasks.with_columns import probe_with as probe_with
    from panderm.training.linear_probe import LinearProbe as LinearProbe
    from panderm.training.probe import Probe as Probe

# Imported when first used, so that `import panderm` and `panderm --help` do not wait for torch.
_HOMES = {
    "benchmark": "panderm.benches.benchmark",
    "Predicted": "panderm.classifying.predicted",
    "predict": "panderm.classifying.predict",
    "load_classifier": "panderm.classifying.classifier",
    "find_artefacts": "panderm.data.artefacts.find",
    "flag_artefacts": "panderm.data.artefacts.table",
    "draw_world": "panderm.data.drawn",
    "import_images": "panderm.data.layouts.imported",
    "map_labels": "panderm.data.diagnoses",
    "map_table": "panderm.data.mapping",
    "read_image": "panderm.data.images",
    "overlay": "panderm.data.overlay",
    "Preprocess": "panderm.data.preprocess",
    "prepare": "panderm.data.sources.prepare",
    "Table": "panderm.data.table",
    "read_table": "panderm.data.table",
    "Embeddings": "panderm.embeddings",
    "open_embeddings": "panderm.embeddings",
    "describe_embeddings": "panderm.embeddings.derive.describe",
    "export_embeddings": "panderm.embeddings.derive.export",
    "merge_embeddings": "panderm.embeddings.derive.merge",
    "select_embeddings": "panderm.embeddings.derive.select",
    "PandermError": "panderm.errors",
    "PandermWarning": "panderm.errors",
    "export": "panderm.exported.export",
    "split": "panderm.gate.split",
    "verify_split": "panderm.gate.verify_split",
    "Checked": "panderm.gate.check",
    "check": "panderm.gate.check",
    "measure_lesions": "panderm.lesions.measuring",
    "LesionTable": "panderm.lesions.table",
    "check_weights": "panderm.models.check",
    "convert": "panderm.models.convert",
    "curve": "panderm.report.curve.curve",
    "Encoder": "panderm.models.encoder",
    "load_encoder": "panderm.models.load",
    "pull": "panderm.models.pulling",
    "demo": "panderm.pipeline",
    "run": "panderm.pipeline",
    "MultiLabelPredictions": "panderm.predictions",
    "Predictions": "panderm.predictions",
    "open_multi_label": "panderm.predictions",
    "open_predictions": "panderm.predictions",
    "MaskPredictions": "panderm.predictions.masks",
    "read_masks": "panderm.predictions.masks",
    "recalibrate": "panderm.predictions.recalibrated",
    "pretrain": "panderm.pretraining.pretrain",
    "finetune": "panderm.finetuning.finetune",
    "MaskScores": "panderm.scores.masks",
    "evaluate_masks": "panderm.scores.masks",
    "MaskComparison": "panderm.scores.masks_compared",
    "compare_masks": "panderm.scores.masks_compared",
    "Report": "panderm.report",
    "CheckPage": "panderm.report.check_page",
    "EmbeddingMap": "panderm.report.map.embedding_map",
    "map_embeddings": "panderm.report.map.embedding_map",
    "MultiLabelReport": "panderm.report.multi_label",
    "MaskReport": "panderm.report.masks",
    "MaskComparisonReport": "panderm.report.masks_compared",
    "MultiLabelScores": "panderm.scores",
    "Scores": "panderm.scores",
    "evaluate": "panderm.scores",
    "compare": "panderm.scores.compare",
    "Comparison": "panderm.scores.compared",
    "LinearProbe": "panderm.training.linear_probe",
    "Probe": "panderm.training.probe",
    "Masked": "panderm.segmenting.predicting.masked",
    "predict_masks": "panderm.segmenting.predicting.predict",
    "load_segmenter": "panderm.segmenting.segmenter",
    "train_segmenter": "panderm.segmenting.learning.train",
    "repeat_segmenter": "panderm.segmenting.learning.repeats",
    "probe": "panderm.tasks.probe",
    "cross_validate": "panderm.tasks.folds",
    "probe_external": "panderm.tasks.external",
    "probe_labels": "panderm.tasks.multi_label",
    "probe_with": "panderm.tasks.with_columns",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from panderm.provenance import version

        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'panderm' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
