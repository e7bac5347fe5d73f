"""The offline chat model behind OpenAI's own HTTP protocol, with faults on request: `deeper serve`."""

from deeper_assets.engines.chat_server.app import Manner, serve
from deeper_assets.engines.chat_server.faults import Faults

__all__ = ["Faults", "Manner", "serve"]
