CREATE TABLE parcels (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contents text NOT NULL
);
