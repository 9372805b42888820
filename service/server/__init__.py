"""gunicorn worker with an event loop."""
