-- States the release in this database.
UPDATE ncen_release SET release = '3.3.11';
