"""What lies on the disk: journal, slots, files of the site, local overlay, inbox."""
