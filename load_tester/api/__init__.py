"""The HTTP API that the page lives from."""
