UPDATE ncen_release SET release = '3.3.0';
