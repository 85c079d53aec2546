"""The IPC path: slots, ring, the client's and the server's half, requests that are posted."""
