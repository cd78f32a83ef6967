-- Whose browser a certificate is for, what its owner calls that, and when it let them in last.
ALTER TABLE certificates ADD COLUMN user_id INTEGER REFERENCES users (id) ON DELETE SET NULL;
ALTER TABLE certificates ADD COLUMN label TEXT;
ALTER TABLE certificates ADD COLUMN used_ms INTEGER;
CREATE INDEX certificates_of_user ON certificates (user_id);
