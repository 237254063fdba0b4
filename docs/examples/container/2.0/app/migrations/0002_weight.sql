ALTER TABLE parcels ADD grams bigint NOT NULL DEFAULT 0;
