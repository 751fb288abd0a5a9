"""The commands of `contralign`, one module each."""
