"""Measurements for the README; nothing else imports them."""
