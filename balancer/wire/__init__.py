"""Pure transforms of bytes and JSON: OpenAI bodies and server-sent events. No I/O."""
