ALTER TABLE vessels ADD flag text NOT NULL DEFAULT 'unknown';
