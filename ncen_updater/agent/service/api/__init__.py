"""The local API: HTTP and JSON over a Unix socket, for users of this machine.

It reads the configuration, the journal and the service's state, and writes approvals, holds,
schedules and jobs into the journal. Requests do no long work and open no network connections. The
caller's identity comes from the kernel (peer credentials), never from the request.
"""
