-- Stand-in for the nCEN suspects database at 3.2.4. Invented: nCEN's real schema is not public.
CREATE TABLE ncen_release (one integer PRIMARY KEY CHECK (one = 1), release text NOT NULL);
INSERT INTO ncen_release VALUES (1, '3.2.4');
-- The application writes and deletes a row here to prove that the database takes writes.
CREATE TABLE ncen_write_probe (token text PRIMARY KEY);

CREATE TABLE persons (
    person_ref text PRIMARY KEY,
    family_name text NOT NULL,
    given_names text,
    birth_date text,
    nationality text,
    workflow_state text NOT NULL CHECK (workflow_state IN ('new', 'assigned', 'reviewed')),
    assigned_officer text,
    notes text
);
CREATE INDEX persons_family_name ON persons (family_name);

CREATE TABLE aliases (
    id integer PRIMARY KEY AUTOINCREMENT,
    person_ref text NOT NULL REFERENCES persons,
    alias text NOT NULL
);
CREATE INDEX aliases_person ON aliases (person_ref);

CREATE TABLE identity_documents (
    id integer PRIMARY KEY AUTOINCREMENT,
    person_ref text NOT NULL REFERENCES persons,
    kind text NOT NULL,
    number text NOT NULL,
    country text NOT NULL,
    expires text
);
CREATE INDEX identity_documents_person ON identity_documents (person_ref);

-- case_ref names a case of the seizures database; no foreign key can reach there.
CREATE TABLE case_links (
    person_ref text NOT NULL REFERENCES persons,
    case_ref text NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (person_ref, case_ref)
);
CREATE INDEX case_links_case ON case_links (case_ref);
