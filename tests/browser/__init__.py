"""End-to-end tests: a real Chromium on a real Jupyter server with a real kernel."""
