-- Stand-in for the nCEN seizures database at 3.2.4. Invented: nCEN's real schema is not public.
CREATE TABLE ncen_release (one integer PRIMARY KEY CHECK (one = 1), release text NOT NULL);
INSERT INTO ncen_release VALUES (1, '3.2.4');
-- The application writes and deletes a row here to prove that the database takes writes.
CREATE TABLE ncen_write_probe (token text PRIMARY KEY);

CREATE TABLE ref_offence_category (
    code text PRIMARY KEY,
    title_en text NOT NULL,
    title_fr text NOT NULL
);
INSERT INTO ref_offence_category VALUES
    ('DRUG', 'Drugs', 'Stupéfiants'),
    ('TOB', 'Tobacco', 'Tabac'),
    ('IPR', 'Intellectual property', 'Propriété intellectuelle'),
    ('CITES', 'Protected species (CITES)', 'Espèces protégées (CITES)'),
    ('WEAP', 'Weapons', 'Armes'),
    ('CASH', 'Undeclared currency', 'Argent liquide non déclaré'),
    ('WASTE', 'Hazardous waste', 'Déchets dangereux'),
    ('OTH', 'Other', 'Autres');

CREATE TABLE ref_cites_class (
    code text PRIMARY KEY,
    title_en text NOT NULL,
    title_fr text NOT NULL
);
INSERT INTO ref_cites_class VALUES
    ('C01', 'Live animals, Appendix I', 'Animaux vivants, Annexe I'),
    ('C02', 'Live animals, Appendix II', 'Animaux vivants, Annexe II'),
    ('C03', 'Ivory, raw', 'Ivoire brut'),
    ('C04', 'Ivory, worked', 'Ivoire travaillé'),
    ('C05', 'Timber', 'Bois'),
    ('C06', 'Plants, live', 'Plantes vivantes'),
    ('C07', 'Skins and leather', 'Peaux et cuir'),
    ('C08', 'Traditional medicine', 'Médecine traditionnelle'),
    ('C09', 'Curios', 'Objets de curiosité'),
    ('C10', 'Specimens, purpose not stated', 'Spécimens, but non indiqué');

CREATE TABLE ref_commodity (
    code text PRIMARY KEY,
    title_en text NOT NULL,
    title_fr text NOT NULL,
    unit text NOT NULL
);
INSERT INTO ref_commodity VALUES
    ('0106', 'Live animals', 'Animaux vivants', 'PCE'),
    ('1207', 'Seeds', 'Graines', 'KGM'),
    ('2402', 'Cigarettes', 'Cigarettes', 'STK'),
    ('2933', 'Chemicals', 'Produits chimiques', 'KGM'),
    ('4403', 'Wood in the rough', 'Bois bruts', 'MTQ'),
    ('6403', 'Footwear', 'Chaussures', 'PAR'),
    ('7108', 'Gold', 'Or', 'GRM'),
    ('9303', 'Firearms', 'Armes à feu', 'PCE'),
    ('9601', 'Ivory and bone', 'Ivoire et os', 'KGM'),
    ('9705', 'Collections and antiques', 'Collections et antiquités', 'PCE');

CREATE TABLE ref_office (
    code text PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL
);
INSERT INTO ref_office VALUES
    ('PORT1', 'Port Louis, harbour', 'sea'),
    ('AIR1', 'Plaisance, passengers', 'air'),
    ('AIR2', 'Plaisance, cargo', 'air'),
    ('POST1', 'Postal sorting office', 'mail'),
    ('LAND1', 'Frontière Est – poste 1', 'land');

CREATE TABLE cases (
    case_ref text PRIMARY KEY,
    opened_at text NOT NULL,
    office_code text NOT NULL REFERENCES ref_office,
    officer text NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'referred', 'closed')),
    summary text,
    total_value numeric,
    currency text
);
CREATE INDEX cases_opened_at ON cases (opened_at);

CREATE TABLE offences (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    category_code text NOT NULL REFERENCES ref_offence_category,
    cites_class text REFERENCES ref_cites_class,
    description text
);
CREATE INDEX offences_case ON offences (case_ref);

CREATE TABLE commodities (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    commodity_code text NOT NULL REFERENCES ref_commodity,
    quantity numeric NOT NULL CHECK (quantity >= 0),
    unit text NOT NULL,
    concealment text
);
CREATE INDEX commodities_case ON commodities (case_ref);

CREATE TABLE conveyances (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    kind text NOT NULL,
    identifier text NOT NULL,
    flag text
);
CREATE INDEX conveyances_case ON conveyances (case_ref);

CREATE TABLE routes (
    case_ref text NOT NULL REFERENCES cases,
    position integer NOT NULL,
    country text NOT NULL,
    place text,
    PRIMARY KEY (case_ref, position)
);

-- The picture itself is a file in the country's overlay; here is what is known of it.
CREATE TABLE photographs (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    file_name text NOT NULL,
    sha256 text NOT NULL,
    taken_at text,
    caption text
);
CREATE INDEX photographs_case ON photographs (case_ref);

CREATE TABLE icomm_queue (
    id integer PRIMARY KEY AUTOINCREMENT,
    case_ref text NOT NULL REFERENCES cases,
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    queued_at text NOT NULL,
    sent_at text
);
CREATE INDEX icomm_queue_case ON icomm_queue (case_ref);
CREATE INDEX icomm_queue_unsent ON icomm_queue (id) WHERE sent_at IS NULL;
