"""The torch island: adapting a pretrained model to a task. No HTTP, no lease, no settings."""
