"""What a finished segmenter says of new images, at their own size."""
