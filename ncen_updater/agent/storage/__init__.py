"""Files of the agent: journal, slots, files of the site, local overlay, inbox."""
