"""Fine-tuning: a classifier whose encoder learns too, from labelled images."""
