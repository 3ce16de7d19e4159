"""The command line: one short function per verb; no logic."""

from panderm.cli.artefacts import artefacts as _artefacts
from panderm.cli.benchmark import benchmark as _benchmark
from panderm.cli.check import check as _check
from panderm.cli.curve import curve as _curve
from panderm.cli.data import data as _data
from panderm.cli.data_import import import_ as _import
from panderm.cli.data_map import map_ as _map
from panderm.cli.embeddings import embeddings as _embeddings
from panderm.cli.evaluate_masks import evaluate_masks as _evaluate_masks
from panderm.cli.export import export as _export
from panderm.cli.map import map_ as _embedding_map
from panderm.cli.models import convert as _convert
from panderm.cli.models import models as _models
from panderm.cli.predict import predict as _predict
from panderm.cli.segment import segment as _segment
from panderm.cli.segment_measure import measure as _segment_measure
from panderm.cli.segment_predict import predict as _segment_predict
from panderm.cli.several import SeveralNumbers as _SeveralNumbers
from panderm.cli.split import split as _split
from panderm.cli.verbs import app, main

app.command(name="curve", cls=_SeveralNumbers)(_curve)
app.command(name="predict")(_predict)
app.command(name="benchmark")(_benchmark)
app.command(name="check")(_check)
app.command(name="split")(_split)
app.command(name="artefacts")(_artefacts)
app.command(name="map")(_embedding_map)
app.command(name="export")(_export)
app.command(name="convert")(_convert)
app.command(name="evaluate-masks")(_evaluate_masks)
app.add_typer(_models, name="models")
_data.command(name="map")(_map)
_data.command(name="import")(_import)
app.add_typer(_data, name="data")
app.add_typer(_embeddings, name="embeddings")
_segment.command(name="predict")(_segment_predict)
_segment.command(name="measure")(_segment_measure)
app.add_typer(_segment, name="segment")

__all__ = ["app", "main"]
