"""Images in other arrangements than ours: folders of classes, Parquet and Hugging Face exports, DICOM."""
