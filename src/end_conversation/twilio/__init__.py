"""Twilio's Studio API: credentials, HTTP, rate limits."""
