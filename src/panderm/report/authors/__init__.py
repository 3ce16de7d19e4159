"""What a clinician reads first and what an author takes: methods, checklists, model card, provenance."""
