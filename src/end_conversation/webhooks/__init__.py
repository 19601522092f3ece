"""Other systems' webhooks: how senders are verified, and how commands are made from their events."""
