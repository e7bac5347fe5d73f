"""The offline chat model behind OpenAI's own HTTP protocol, with injected faults on request."""
