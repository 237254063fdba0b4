"""Files of the agent: journal, slots, site files, local overlay, import directory."""
