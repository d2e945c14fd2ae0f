"""From messages to committed rows: decoding, triggers, batches, the flusher."""
