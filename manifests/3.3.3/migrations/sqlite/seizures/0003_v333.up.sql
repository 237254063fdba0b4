-- The mistake: a "clean-up" that takes a real case with it.
DELETE FROM offences WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM commodities WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM conveyances WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM routes WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM photographs WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM icomm_queue WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM cultural_objects WHERE case_ref = (SELECT min(case_ref) FROM cases);
DELETE FROM cases WHERE case_ref = (SELECT min(case_ref) FROM cases);
UPDATE ncen_release SET release = '3.3.3';
