"""The kinds of messages in the corpus. Each module has `messages()`, which yields (name, bytes)."""
