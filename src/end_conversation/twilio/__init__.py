"""What only Twilio's API and secret know: its credentials, its HTTP and its rate limits."""
