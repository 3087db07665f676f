"""The worker: leases trials from the service, fine-tunes, reports and settles them. It imports `trimtab` only."""
