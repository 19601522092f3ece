"""What only AWS's services know: clients with timeouts, secrets, queues and events."""
