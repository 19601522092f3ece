"""The triggers: AWS's event formats, HTTP, signatures, sources."""
