"""The process that speaks to the service: leases, verdicts, uploads. It never imports torch."""
