"""The embedded default engines: a stand-in chat model that needs no key, no network and no accelerator."""

from deeper_assets.engines.offline.chat_model import OfflineChatModel

__all__ = ["OfflineChatModel"]
