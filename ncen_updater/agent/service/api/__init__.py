"""The local interface: HTTP and JSON over a Unix socket, for the people of this machine.

It reads the configuration, the journal and the service's notes, and writes approvals, holds, times
and jobs into the journal. No work lives in a request, and nothing here opens a connection. Who
asks is told by the kernel, never by the request.
"""
