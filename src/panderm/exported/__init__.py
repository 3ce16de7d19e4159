"""An encoder, and a fitted probe, as one ONNX file that runs without this package."""

import os

# ONNX Runtime's own builds report its use to their maker. This alone stops it, and only before it is opened.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
