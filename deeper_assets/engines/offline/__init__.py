"""The embedded default engines, which need no key, no network and no accelerator."""
