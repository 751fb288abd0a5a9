"""Preference training: losses, the log-prob engine and the trainers."""
