"""Pages and forms of the console: a module a page, with a template of its name."""
