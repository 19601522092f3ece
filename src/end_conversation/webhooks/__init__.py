"""What only other systems' webhooks know: how senders prove themselves, what they send, what it means."""
