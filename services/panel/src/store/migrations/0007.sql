-- What of the panel's past it does not know: from when the backup is that it was restored from last, and when that was.
ALTER TABLE settings ADD COLUMN restored_from_ms INTEGER;
ALTER TABLE settings ADD COLUMN restored_ms INTEGER;
