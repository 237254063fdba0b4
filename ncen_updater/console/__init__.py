"""The web console: a separate process that uses the agent's service only through its API.

It runs as the user who started it (``local_console``), or as a user of its own behind a web server
(``proxied_server``), has no privileges of its own, and shows only what the service returns to the
signed-in user. ``app`` handles requests; each module in ``pages`` turns documents of the service
into the values of one template.
"""
