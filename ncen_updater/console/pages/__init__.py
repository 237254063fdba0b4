"""Pages and forms of the console: one module per page, with a template of the same name."""
