-- States the release that this one stands on.
UPDATE ncen_release SET release = '3.3.0';
