-- Stand-in for the nCEN companies database at 3.2.4. Invented: nCEN's real schema is not public.
CREATE TABLE ncen_release (one integer PRIMARY KEY CHECK (one = 1), release text NOT NULL);
INSERT INTO ncen_release VALUES (1, '3.2.4');
-- The application writes and deletes a row here to prove that the database takes writes.
CREATE TABLE ncen_write_probe (token text PRIMARY KEY);

CREATE TABLE companies (
    company_ref text PRIMARY KEY,
    name text NOT NULL,
    legal_form text,
    registration text,
    country text NOT NULL,
    turnover numeric
);

CREATE TABLE addresses (
    id integer PRIMARY KEY AUTOINCREMENT,
    company_ref text NOT NULL REFERENCES companies,
    line text NOT NULL,
    city text NOT NULL,
    postcode text,
    country text NOT NULL
);
CREATE INDEX addresses_company ON addresses (company_ref);

-- case_ref names a case of the seizures database; no foreign key can reach there.
CREATE TABLE case_links (
    company_ref text NOT NULL REFERENCES companies,
    case_ref text NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (company_ref, case_ref)
);
CREATE INDEX case_links_case ON case_links (case_ref);
