"""The demo: from nothing to a Slack message, on a real Kubernetes. `python -m deploy.demo up|down`."""
